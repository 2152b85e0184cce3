//! One of several outputs is read: the one given by name, or the only one that is a classifier.

use clr_onnx::{Backbone, ImportError, ImportOptions, ReadOptions, import_bytes};

use crate::support::{Model, info, int, ints, ramp};

/// Returns a model with the convolutions `one` (output `a`, 8 channels) and `two` (output `b`, 8 channels).
fn body() -> Model {
    Model::new(13)
        .floats("k", &[8, 3, 2, 2], &ramp(96))
        .named("one", "Conv", &["x", "k"], "a_", &[ints("strides", &[2, 2])])
        .node("Relu", &["a_"], "a", &[])
        .floats("l", &[8, 8, 1, 1], &ramp(64))
        .named("two", "Conv", &["a", "l"], "b_", &[])
        .node("Relu", &["b_"], "b", &[])
}

/// Adds a classifier with `classes` classes on the map `input`.
fn classifier(model: Model, input: &str, output: &str, classes: i64) -> Model {
    let part = |suffix: &str| format!("{output}_{suffix}");
    let (pool, flat, weight) = (part("pool"), part("flat"), part("weight"));
    model
        .node("GlobalAveragePool", &[input], &pool, &[])
        .node("Flatten", &[&pool], &flat, &[])
        .floats(&weight, &[8, classes], &ramp(8 * classes as usize))
        .node("MatMul", &[&flat, &weight], output, &[])
}

fn named(model: Model, output: &str) -> Result<Backbone, ImportError> {
    let options = ImportOptions::default().with_onnx(ReadOptions::default().with_output(output.to_owned()));
    import_bytes(&model.bytes(), "many.onnx", &options)
}

fn alone() -> Backbone {
    classifier(body(), "b", "z", 5).output("z").load().unwrap()
}

#[test]
fn logits_next_to_features_are_read_in_either_order_with_a_note() {
    for outputs in [["z", "b"], ["b", "z"], ["z_flat", "z"]] {
        let model = outputs
            .iter()
            .fold(classifier(body(), "b", "z", 5), |model, output| model.output(output));
        let backbone = model.load().unwrap();
        assert_eq!(backbone, alone(), "{outputs:?}");
        let note = &backbone.notes()[0];
        assert!(
            note.contains("of 2 outputs `z` is read: it is the only classifier") && note.contains("--output-name"),
            "{note}"
        );
    }
}

#[test]
fn logits_probabilities_and_argmax_are_one_result() {
    let model = classifier(body(), "b", "z", 5)
        .node("Softmax", &["z"], "s", &[int("axis", 1)])
        .node("ArgMax", &["s"], "i", &[int("axis", 1)]);
    let model = ["i", "z", "s"].iter().fold(model, |model, output| model.output(output));
    assert_eq!(model.load().unwrap(), alone());
}

#[test]
fn of_two_heads_with_the_same_classes_the_deeper_one_is_read() {
    let model = classifier(classifier(body(), "b", "z", 5), "a", "aux", 5);
    let backbone = model.output("aux").output("z").load().unwrap();
    assert_eq!(backbone, alone());
    assert!(backbone.notes()[0].contains("deepest"), "{:?}", backbone.notes());
}

#[test]
fn heads_of_two_tasks_are_listed_with_shapes_and_either_can_be_named() {
    let model = || {
        let mut model = classifier(classifier(body(), "b", "kind", 5), "b", "age", 9);
        model.graph.output.push(info("kind", &[None, Some(5)]));
        model.graph.output.push(info("age", &[None, Some(9)]));
        model
    };
    let text = model().error();
    for word in [
        "expected 1, got 2",
        "`kind` [batch, 5]: a classifier of 5 classes",
        "`age` [batch, 9]",
        "--output-name age",
    ] {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    for (output, classes) in [("kind", 5), ("age", 9)] {
        assert_eq!(named(model(), output).unwrap().classifier().unwrap().classes(), classes);
    }
    let text = named(model(), "sex").unwrap_err().to_string();
    assert!(
        text.contains("got `sex`") && text.contains("`age` [batch, 9]"),
        "{text}"
    );
}

#[test]
fn several_maps_without_a_classifier_need_a_chosen_output() {
    let text = body().output("a").output("b").error();
    assert!(
        text.contains("none of them a classifier") && text.contains("`b`") && text.contains("8 features"),
        "{text}"
    );
    assert_eq!(named(body().output("a").output("b"), "a").unwrap().sites().len(), 1);
}

#[test]
fn a_value_inside_the_graph_can_be_named() {
    let backbone = named(classifier(body(), "b", "z", 5).output("z"), "a").unwrap();
    assert_eq!(
        (backbone.sites().len(), backbone.feature_count(), backbone.classifier()),
        (1, 8, None)
    );
}

#[test]
fn unreadable_outputs_are_skipped_or_reported() {
    let model = |model: Model| model.node("Einsum", &["b"], "e", &[]).output("e");
    let backbone = model(classifier(body(), "b", "z", 5)).output("z").load().unwrap();
    assert_eq!(backbone, alone());
    let text = model(body()).output("b").error();
    assert!(
        text.contains("`e`") && text.contains("cannot be read: 1 node(s) not supported"),
        "{text}"
    );
    let text = model(body()).node("NonZero", &["b"], "f", &[]).output("f").error();
    assert!(text.contains("Einsum (opset 13)"), "{text}");
}

#[test]
fn a_graph_without_outputs_is_refused() {
    assert!(body().error().contains("output: expected 1, got none"));
}
