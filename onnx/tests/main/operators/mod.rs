//! Every operator becomes the equivalent operation of the canonical graph, in each of the forms that exporters write.

mod activations;
mod affine;
mod constants;
mod heads;
mod pools;

use clr_onnx::{Activation, BatchNorm, Conv, Op, Padding, Tensor};

use crate::support::{Model, float, int, ints, ramp, string};

fn vector(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values)
}

/// Returns the operations between the convolution `conv` and the pool that the import appends. The model's nodes read
/// `c` and produce `y`.
fn after_conv(model: Model) -> Vec<Op> {
    let mut ops = model.output("y").ops();
    assert!(matches!(ops.first(), Some(Op::Conv(_))), "{ops:?}");
    assert_eq!(ops.split_off(ops.len() - 2), [Op::GlobalAveragePool, Op::Flatten]);
    ops.split_off(1)
}

fn conv(model: Model) -> Conv {
    match model.output("y").ops().swap_remove(0) {
        Op::Conv(conv) => conv,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conv_keeps_group_stride_dilation_bias_and_padding() {
    let attributes = [
        ints("strides", &[2, 1]),
        ints("dilations", &[1, 2]),
        ints("pads", &[0, 1, 2, 3]),
        int("group", 3),
        ints("kernel_shape", &[3, 2]),
    ];
    let model = Model::new(13)
        .floats("w", &[6, 1, 3, 2], &ramp(36))
        .floats("b", &[6], &ramp(6));
    let got = conv(model.node("Conv", &["x", "w", "b"], "y", &attributes));
    let expected = Conv {
        weight: Tensor::new([6, 1, 3, 2], ramp(36)).into(),
        bias: Some(vector(&ramp(6))),
        stride: [2, 1],
        dilation: [1, 2],
        group: 3,
        padding: Padding::Explicit([0, 1, 2, 3]),
    };
    assert_eq!(got, expected);
    let automatic = [
        ("SAME_UPPER", Padding::SameUpper),
        ("SAME_LOWER", Padding::SameLower),
        ("VALID", Padding::Explicit([0; 4])),
    ];
    for (text, padding) in automatic {
        let model = Model::new(13).floats("w", &[2, 3, 3, 3], &ramp(54)).node(
            "Conv",
            &["x", "w"],
            "y",
            &[string("auto_pad", text)],
        );
        assert_eq!(conv(model).padding, padding);
    }
}

#[test]
fn batch_normalisation_keeps_its_statistics() {
    let model = ["s", "b", "m", "v"]
        .into_iter()
        .fold(Model::new(11).conv(), |model, name| model.floats(name, &[2], &ramp(2)));
    let ops = after_conv(model.node(
        "BatchNormalization",
        &["c", "s", "b", "m", "v"],
        "y",
        &[float("epsilon", 0.001)],
    ));
    let [scale, bias, mean, variance] = [0; 4].map(|_| vector(&ramp(2)));
    assert_eq!(
        ops,
        [Op::BatchNorm(BatchNorm {
            scale,
            bias,
            mean,
            variance,
            epsilon: 0.001
        })]
    );
}

#[test]
fn values_are_added_multiplied_and_concatenated() {
    let model = || Model::new(13).conv().node("Relu", &["c"], "r", &[]);
    let relu = Op::Activation(Activation::Relu);
    assert_eq!(
        after_conv(model().node("Add", &["c", "r"], "y", &[])),
        [relu.clone(), Op::Add]
    );
    assert_eq!(
        after_conv(model().node("Concat", &["c", "r", "c"], "y", &[int("axis", -3)])),
        [relu.clone(), Op::Concat]
    );
    let gated = model()
        .node("GlobalAveragePool", &["r"], "g", &[])
        .node("Mul", &["c", "g"], "y", &[]);
    assert_eq!(after_conv(gated), [relu, Op::GlobalAveragePool, Op::Mul]);
}
