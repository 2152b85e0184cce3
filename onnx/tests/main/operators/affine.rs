//! Per-channel constants: affine operations, biases and norms.

use clr_onnx::{Activation, BatchNorm, Op};

use super::{after_conv, conv, vector};
use crate::support::Model;

#[test]
fn constants_per_channel_become_one_affine() {
    let model = Model::new(13)
        .conv()
        .node("Relu", &["c"], "r", &[])
        .floats("s", &[1, 2, 1, 1], &[2.0, 4.0])
        .floats("b", &[2, 1, 1], &[1.0, 3.0])
        .floats("two", &[], &[2.0])
        .node("Mul", &["s", "r"], "m", &[])
        .node("Add", &["m", "b"], "a", &[])
        .node("Sub", &["a", "two"], "d", &[])
        .node("Div", &["d", "two"], "y", &[]);
    let affine = Op::ChannelAffine {
        scale: vector(&[1.0, 2.0]),
        bias: vector(&[-0.5, 0.5]),
    };
    assert_eq!(after_conv(model), [Op::Activation(Activation::Relu), affine]);
}

#[test]
fn a_constant_minus_a_value_negates_it() {
    let model = Model::new(13)
        .conv()
        .node("Relu", &["c"], "r", &[])
        .floats("two", &[], &[2.0])
        .node("Sub", &["two", "r"], "y", &[]);
    let affine = Op::ChannelAffine {
        scale: vector(&[-1.0, -1.0]),
        bias: vector(&[2.0, 2.0]),
    };
    assert_eq!(after_conv(model)[1], affine);
}

#[test]
fn an_addition_after_a_convolution_is_its_bias() {
    let model = Model::new(13)
        .conv()
        .floats("b", &[1, 2, 1, 1], &[1.0, 3.0])
        .node("Add", &["c", "b"], "y", &[]);
    assert_eq!(conv(model).bias, Some(vector(&[1.0, 3.0])));
}

#[test]
fn a_norm_written_as_mul_and_add_is_a_norm() {
    let model = Model::new(13)
        .conv()
        .floats("s", &[1, 2, 1, 1], &[2.0, 4.0])
        .floats("b", &[1, 2, 1, 1], &[1.0, 3.0]);
    let ops = after_conv(
        model
            .node("Mul", &["c", "s"], "m", &[])
            .node("Add", &["m", "b"], "y", &[]),
    );
    let [scale, bias, mean, variance] = [[2.0, 4.0], [1.0, 3.0], [0.0, 0.0], [1.0, 1.0]].map(|values| vector(&values));
    assert_eq!(
        ops,
        [Op::BatchNorm(BatchNorm {
            scale,
            bias,
            mean,
            variance,
            epsilon: 0.0
        })]
    );
}
