//! Ends of classifiers: flattening, dense layers and a final Softmax.

use clr_onnx::{Op, Tensor};

use super::vector;
use crate::support::{Model, float, int, ints, ramp};

/// Returns a model that flattens the pooled features as `how` does and ends in a Gemm.
fn classified(how: impl FnOnce(Model) -> Model) -> Model {
    how(Model::new(13).conv().node("GlobalAveragePool", &["c"], "p", &[]))
        .floats("k", &[4, 2], &ramp(8))
        .floats("kb", &[4], &ramp(4))
        .node("Gemm", &["f", "k", "kb"], "y", &[int("transB", 1)])
        .output("y")
}

#[test]
fn every_way_to_flatten_gives_the_same_backbone() {
    let chain = |model: Model| {
        model
            .integers("zero", &[], &[0])
            .integers("rest", &[1], &[-1])
            .integers("front", &[1], &[0])
            .node("Shape", &["p"], "s", &[])
            .node("Gather", &["s", "zero"], "n", &[int("axis", 0)])
            .node("Unsqueeze", &["n", "front"], "u", &[])
            .node("Concat", &["u", "rest"], "t", &[int("axis", 0)])
            .node("Reshape", &["p", "t"], "f", &[])
    };
    let ways: [&dyn Fn(Model) -> Model; 7] = [
        &|model| {
            let model = model.integers("t", &[2], &[-1, 2]);
            model.node("Reshape", &["p", "t"], "f", &[int("allowzero", 1)])
        },
        &|model| model.node("Flatten", &["p"], "f", &[]),
        &|model| {
            model
                .integers("t", &[2], &[0, -1])
                .node("Reshape", &["p", "t"], "f", &[])
        },
        &|model| {
            model
                .integers("t", &[2], &[-1, 2])
                .node("Reshape", &["p", "t"], "f", &[])
        },
        &|model| {
            model
                .integers("a", &[2], &[2, 3])
                .node("Squeeze", &["p", "a"], "f", &[])
        },
        &|model| model.node("Squeeze", &["p"], "f", &[ints("axes", &[-1, -2])]),
        &chain,
    ];
    let first = classified(ways[0]).load().unwrap();
    assert_eq!(first.classifier().unwrap().classes(), 4);
    assert_eq!(first.feature_count(), 2);
    for way in ways {
        assert_eq!(classified(way).load().unwrap(), first);
    }
}

#[test]
fn a_dense_layer_is_the_same_as_gemm_and_as_matmul_with_add() {
    let flat = || {
        Model::new(13)
            .conv()
            .node("GlobalAveragePool", &["c"], "p", &[])
            .node("Flatten", &["p"], "f", &[])
            .floats("b", &[2], &[1.0, 2.0])
    };
    // The second dense layer is the classifier, and the first remains in the graph.
    let end = |model: Model| {
        model
            .floats("k", &[3, 2], &ramp(6))
            .node("Gemm", &["d", "k"], "y", &[int("transB", 1)])
            .output("y")
            .ops()
            .swap_remove(3)
    };
    let expected = Op::Dense {
        weight: Tensor::new([2, 2], vec![1.0, 2.0, 3.0, 4.0]),
        bias: vector(&[1.0, 2.0]),
    };
    let [rows, columns] = [[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]];
    let halves = rows.map(|value| value / 2.0);
    let spellings = [
        flat()
            .floats("m", &[2, 2], &rows)
            .node("Gemm", &["f", "m", "b"], "d", &[int("transB", 1)]),
        flat()
            .floats("m", &[2, 2], &columns)
            .node("Gemm", &["f", "m", "b"], "d", &[]),
        flat()
            .floats("m", &[2, 2], &halves)
            .floats("b2", &[1, 2], &[2.0, 4.0])
            .node(
                "Gemm",
                &["f", "m", "b2"],
                "d",
                &[int("transB", 1), float("alpha", 2.0), float("beta", 0.5)],
            ),
        flat()
            .floats("m", &[2, 2], &columns)
            .node("MatMul", &["f", "m"], "mm", &[])
            .node("Add", &["b", "mm"], "d", &[]),
        flat()
            .floats("m", &[2, 2], &rows)
            .node("Transpose", &["m"], "t", &[ints("perm", &[1, 0])])
            .node("MatMul", &["f", "t"], "mm", &[])
            .node("Add", &["mm", "b"], "d", &[]),
    ];
    for model in spellings {
        assert_eq!(end(model), expected);
    }
}

#[test]
fn a_pointwise_convolution_of_the_pooled_features_is_a_classifier() {
    let model = Model::new(13)
        .conv()
        .node("GlobalAveragePool", &["c"], "p", &[])
        .floats("k", &[4, 2, 1, 1], &ramp(8))
        .floats("kb", &[4], &ramp(4))
        .node("Conv", &["p", "k", "kb"], "l", &[]);
    let expected = crate::support::head(2, 4);
    let flattened = Model {
        graph: model.graph.clone(),
        opset: 13,
    }
    .node("Flatten", &["l"], "y", &[])
    .output("y")
    .load()
    .unwrap();
    let plain = model.output("l").load().unwrap();
    for backbone in [flattened, plain] {
        assert_eq!(backbone.classifier(), Some(&expected));
        assert_eq!((backbone.feature_count(), backbone.sites().len()), (2, 1));
    }
}

#[test]
fn a_softmax_at_the_end_is_left_out_and_noted() {
    let model = classified(|model| model.node("Flatten", &["p"], "f", &[]));
    let plain = Model {
        graph: model.graph.clone(),
        opset: 13,
    }
    .load()
    .unwrap();
    let mut model = model.node("Softmax", &["y"], "probabilities", &[int("axis", -1)]);
    model.graph.output.clear();
    let backbone = model.output("probabilities").load().unwrap();
    assert_eq!(backbone, plain);
    assert!(backbone.notes()[0].contains("Softmax"), "{:?}", backbone.notes());
}
