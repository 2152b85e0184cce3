//! For every kind of classifier ending, the features are the classifier's input. If the classifier is linear, its
//! classes are kept.

use clr_adapters::Head;
use clr_onnx::{Backbone, ImportOptions, Op, ReadOptions, import_bytes};

use crate::support::{Model, float, int, ints, ramp};

/// A body of eight channels at 4 × 4: `b`.
fn body() -> Model {
    Model::new(13)
        .floats("k", &[8, 3, 2, 2], &ramp(96))
        .node("Conv", &["x", "k"], "k_out", &[ints("strides", &[2, 2])])
        .node("Relu", &["k_out"], "b", &[])
}

/// Returns a model that averages `b` and applies a dense layer with `classes` outputs; its output is `z`.
fn dense(classes: i64) -> Model {
    body()
        .node("GlobalAveragePool", &["b"], "p", &[])
        .node("Flatten", &["p"], "f", &[])
        .floats("d", &[classes, 8], &ramp(classes as usize * 8))
        .floats("e", &[classes], &ramp(classes as usize))
        .node("Gemm", &["f", "d", "e"], "z", &[int("transB", 1)])
}

fn plain() -> Backbone {
    dense(5).output("z").load().unwrap()
}

fn note(backbone: &Backbone, words: &[&str]) {
    let notes = backbone.notes().join("\n");
    for word in words {
        assert!(notes.contains(word), "no '{word}' in: {notes}");
    }
}

#[test]
fn decisions_between_classes_leave_the_same_backbone_and_classifier() {
    let axis = |value| [int("axis", value)];
    let ends = [
        dense(5).node("Softmax", &["z"], "y", &axis(1)),
        dense(5).node("LogSoftmax", &["z"], "y", &axis(-1)),
        dense(5)
            .node("Softmax", &["z"], "s", &axis(1))
            .node("Log", &["s"], "y", &[]),
        dense(5).node("ArgMax", &["z"], "y", &[int("axis", 1), int("keepdims", 0)]),
        dense(5)
            .node("Softmax", &["z"], "s", &axis(1))
            .node("ArgMax", &["s"], "a", &axis(1))
            .node("Cast", &["a"], "y", &[int("to", 6)]),
        dense(5)
            .node("Softmax", &["z"], "s", &axis(1))
            .node("ReduceMax", &["s"], "y", &[ints("axes", &[1])]),
        dense(5)
            .integers("three", &[1], &[3])
            .node("TopK", &["z", "three"], "y", &axis(1)),
        dense(5)
            .node("Softmax", &["z"], "s", &axis(1))
            .node("Identity", &["s"], "y", &[]),
        dense(5)
            .node("Identity", &["z"], "i", &[])
            .node("Dropout", &["i"], "o", &[])
            .node("Softmax", &["o"], "y", &axis(1)),
    ];
    for end in ends {
        let operator = end.graph.node.last().and_then(|node| node.op_type.clone()).unwrap();
        let backbone = end
            .output("y")
            .load()
            .unwrap_or_else(|error| panic!("{operator}: {error}"));
        assert_eq!(backbone, plain(), "{operator}");
        note(&backbone, &["at the end", "logits"]);
    }
}

#[test]
fn a_multi_label_classifier_is_kept_with_a_note() {
    let backbone = dense(5).node("Sigmoid", &["z"], "y", &[]).output("y").load().unwrap();
    assert_eq!(backbone, plain());
    note(&backbone, &["Sigmoid", "exclude one another"]);
    let decided = dense(5)
        .node("Sigmoid", &["z"], "s", &[])
        .floats("half", &[], &[0.5])
        .node("Greater", &["s", "half"], "y", &[]);
    assert_eq!(decided.output("y").load().unwrap(), plain());
}

#[test]
fn one_unit_with_a_sigmoid_becomes_two_classes_of_the_same_probability() {
    let backbone = dense(1).node("Sigmoid", &["z"], "y", &[]).output("y").load().unwrap();
    let head = backbone.classifier().expect("a classifier");
    assert_eq!((head.features, head.classes()), (8, 2));
    assert!(head.weight[..8].iter().all(|&weight| weight == 0.0) && head.bias[0] == 0.0);
    assert_eq!((&head.weight[8..], head.bias[1]), (&ramp(8)[..], ramp(1)[0]));
    note(&backbone, &["one unit", "two classes"]);
}

#[test]
fn one_unit_alone_may_be_a_regression_and_is_no_backbone_of_one_feature() {
    let backbone = dense(1).output("z").load().unwrap();
    assert_eq!((backbone.feature_count(), backbone.classifier()), (8, None));
    note(&backbone, &["one unit", "regression", "--labels"]);
}

#[test]
fn two_labels_make_one_unit_a_classifier_of_two_classes() {
    let options = ImportOptions::default().with_labels(vec!["no".into(), "yes".into()]);
    let backbone = import_bytes(&dense(1).output("z").bytes(), "binary.onnx", &options).unwrap();
    let head = backbone.classifier().expect("a classifier");
    assert_eq!((head.classes(), &head.weight[8..]), (2, &ramp(8)[..]));
    // A written file states that it has a classifier, and is read back unchanged.
    assert_eq!(
        Backbone::from_bytes(&backbone.to_bytes(), "again.onnx").unwrap(),
        backbone
    );
}

#[test]
fn a_classifier_of_one_class_survives_writing_and_reading() {
    let graph = dense(5).output("z").load().unwrap().graph().clone();
    let head = Head {
        features: 8,
        weight: ramp(8),
        bias: vec![0.5],
    };
    let backbone = crate::support::backbone(graph, Some(head));
    assert_eq!(
        Backbone::from_bytes(&backbone.to_bytes(), "again.onnx").unwrap(),
        backbone
    );
}

#[test]
fn a_mean_after_a_pointwise_classifier_is_taken_before_it() {
    let head = |model: Model| model.floats("d", &[5, 8, 1, 1], &ramp(40)).floats("e", &[5], &ramp(5));
    let before = head(body().node("GlobalAveragePool", &["b"], "p", &[]))
        .node("Conv", &["p", "d", "e"], "c", &[])
        .node("Flatten", &["c"], "f", &[]);
    let after = head(body())
        .node("Conv", &["b", "d", "e"], "c", &[])
        .node("GlobalAveragePool", &["c"], "p", &[])
        .node("Flatten", &["p"], "f", &[]);
    let window = head(body())
        .node("Conv", &["b", "d", "e"], "c", &[])
        .node("AveragePool", &["c"], "p", &[ints("kernel_shape", &[4, 4])])
        .node("Flatten", &["p"], "f", &[]);
    let softmax = head(body())
        .node("Conv", &["b", "d", "e"], "c", &[])
        .node("GlobalAveragePool", &["c"], "p", &[])
        .node("Softmax", &["p"], "s", &[int("axis", 1)])
        .node("Flatten", &["s"], "f", &[]);
    let expected = before.output("f").load().unwrap();
    assert_eq!(expected.classifier().unwrap().classes(), 5);
    for other in [after, window] {
        let got = other.output("f").load().unwrap();
        assert_eq!(
            (got.digest(), got.classifier()),
            (expected.digest(), expected.classifier())
        );
    }
    // In this model, the flattening came after the Softmax, so it provides no name for the features.
    let got = softmax.output("f").load().unwrap();
    assert_eq!((got.feature_count(), got.classifier()), (8, expected.classifier()));
}

#[test]
fn a_convolution_over_an_entire_map_is_a_dense_layer_on_it() {
    let model = body()
        .floats("d", &[5, 8, 4, 4], &ramp(640))
        .node("Conv", &["b", "d"], "c", &[])
        .node("Flatten", &["c"], "y", &[]);
    let backbone = model.output("y").load().unwrap();
    let head = backbone.classifier().expect("a classifier");
    assert_eq!(
        (head.features, head.classes(), &head.weight[..]),
        (128, 5, &ramp(640)[..])
    );
}

#[test]
fn a_non_linear_classifier_gives_its_features_and_the_reason() {
    let squeeze = |name: &str| {
        body()
            .floats("d", &[5, 8, 1, 1], &ramp(40))
            .named(name, "Conv", &["b", "d"], "c", &[])
            .node("Relu", &["c"], "r", &[])
            .node("GlobalAveragePool", &["r"], "p", &[])
            .node("Flatten", &["p"], "f", &[])
    };
    let window = body()
        .floats("d", &[5, 8, 3, 3], &ramp(360))
        .node("Conv", &["b", "d"], "c", &[])
        .node("GlobalAveragePool", &["c"], "p", &[])
        .node("Flatten", &["p"], "f", &[]);
    let softmax = |model: Model| model.node("Softmax", &["f"], "y", &[int("axis", 1)]).output("y");
    for (model, word) in [
        (softmax(squeeze("last")), "Relu"),
        (squeeze("/classifier/classifier.1/Conv").output("f"), "Relu"),
        (softmax(window), "more than one pixel"),
    ] {
        let backbone = model.load().unwrap();
        assert_eq!((backbone.feature_count(), backbone.classifier()), (8, None));
        note(&backbone, &[word, "cannot be kept as a linear classifier"]);
    }
    // Nothing indicates a classifier: the last layer of a body looks the same.
    let backbone = squeeze("last").output("f").load().unwrap();
    assert_eq!((backbone.feature_count(), backbone.classifier()), (5, None));
}

#[test]
fn the_hidden_layer_of_a_head_of_two_stays_in_the_backbone() {
    let model = dense(5)
        .node("Relu", &["z"], "r", &[])
        .floats("g", &[5, 3], &ramp(15))
        .node("MatMul", &["r", "g"], "y", &[]);
    let backbone = model.output("y").load().unwrap();
    assert_eq!(
        (backbone.feature_count(), backbone.classifier().unwrap().classes()),
        (5, 3)
    );
    assert!(
        backbone
            .graph()
            .nodes
            .iter()
            .any(|node| matches!(node.op, Op::Dense { .. }))
    );
}

#[test]
fn a_norm_after_the_classifier_is_folded_into_it() {
    let vector = |model: Model, name: &str, values: [f32; 5]| model.floats(name, &[5], &values);
    let model = vector(dense(5), "scale", [2.0, 1.0, 1.0, 1.0, 3.0]);
    let model = vector(model, "bias", [0.5, 0.0, 0.0, 0.0, 0.0]);
    let model = vector(model, "mean", [1.0, 0.0, 0.0, 0.0, 0.0]);
    let model = vector(model, "variance", [4.0, 1.0, 1.0, 1.0, 1.0]);
    let norm = model.node(
        "BatchNormalization",
        &["z", "scale", "bias", "mean", "variance"],
        "y",
        &[float("epsilon", 0.0)],
    );
    let backbone = norm.output("y").load().unwrap();
    let (head, expected) = (
        backbone.classifier().unwrap().clone(),
        plain().classifier().unwrap().clone(),
    );
    // (z − 1) / 2 · 2 + 0.5.
    assert!(
        (head.bias[0] - (expected.bias[0] - 0.5)).abs() < 1e-6,
        "{}",
        head.bias[0]
    );
    assert!((head.weight[32] - 3.0 * expected.weight[32]).abs() < 1e-6);
    assert_eq!(head.weight[..32], expected.weight[..32]);
}

#[test]
fn a_sigmoid_inside_a_map_and_an_embedding_with_an_activation_are_features() {
    let map = body().node("Sigmoid", &["b"], "y", &[]).output("y").load().unwrap();
    assert_eq!((map.feature_count(), map.classifier()), (8, None));
    let embedding = dense(5).node("Relu", &["z"], "y", &[]).output("y").load().unwrap();
    assert_eq!((embedding.feature_count(), embedding.classifier()), (5, None));
    assert_eq!(embedding.further_inside(), Some("f"));
}

#[test]
fn a_softmax_over_anything_but_the_classes_is_refused() {
    let text = body()
        .node("Softmax", &["b"], "y", &[int("axis", 3)])
        .output("y")
        .error();
    assert!(
        text.contains("Softmax") && text.contains("expected the classes"),
        "{text}"
    );
}

#[test]
fn an_unsupported_end_names_the_value_before_it_which_can_be_read() {
    // Cosine similarity to class vectors.
    let model = body()
        .node("GlobalAveragePool", &["b"], "p", &[])
        .node("Flatten", &["p"], "f", &[])
        .node("Unique", &["f"], "n", &[int("axis", 1)])
        .floats("d", &[8, 5], &ramp(40))
        .node("MatMul", &["n", "d"], "y", &[])
        .output("y");
    let bytes = model.bytes();
    let text = Backbone::from_bytes(&bytes, "cosine.onnx").unwrap_err().to_string();
    assert!(text.contains("name the value `f` [N, 8] with --output-name"), "{text}");
    let options = ImportOptions::default().with_onnx(ReadOptions::default().with_output("f".to_owned()));
    assert_eq!(
        import_bytes(&bytes, "cosine.onnx", &options).unwrap().feature_count(),
        8
    );
}
