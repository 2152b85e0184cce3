//! Constants, tensors, names, and nodes that change nothing.

use clr_onnx::{Activation, Op};

use super::{after_conv, conv};
use crate::support::{Model, float, int, ramp, tensor};

#[test]
fn operators_without_effect_are_left_out() {
    let model = Model::new(13)
        .floats("w0", &[2, 3, 1, 1], &ramp(6))
        .node("Identity", &["w0"], "w", &[])
        .named("conv", "Conv", &["x", "w"], "c", &[])
        .node("Identity", &["c"], "i", &[])
        .node("Dropout", &["i"], "y", &[]);
    assert_eq!(after_conv(model), []);
}

#[test]
fn constant_nodes_are_constants() {
    let mut value = int("value", 0);
    value = clr_onnx::proto::AttributeProto {
        i: None,
        t: Some(tensor("", &[], &[6.0])),
        ..value
    };
    let model = Model::new(13)
        .conv()
        .node("Constant", &[], "high", &[value])
        .node("Constant", &[], "low", &[float("value_float", 0.0)])
        .node("Clip", &["c", "low", "high"], "y", &[]);
    assert_eq!(
        after_conv(model),
        [Op::Activation(Activation::Clip { min: 0.0, max: 6.0 })]
    );
}

#[test]
fn tensors_of_any_float_type_and_layout_become_f32() {
    let values = [1.0_f32, -2.5, 0.0, 3.0, 0.25, 1024.0];
    let half = |value: &f32| half::f16::from_f32(*value).to_le_bytes();
    let base = tensor("w", &[2, 3, 1, 1], &[]);
    let variants = [
        tensor("w", &[2, 3, 1, 1], &values),
        clr_onnx::proto::TensorProto {
            raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            ..base.clone()
        },
        clr_onnx::proto::TensorProto {
            data_type: Some(11),
            double_data: values.iter().map(|&v| v.into()).collect(),
            ..base.clone()
        },
        clr_onnx::proto::TensorProto {
            data_type: Some(10),
            raw_data: Some(values.iter().flat_map(half).collect()),
            ..base.clone()
        },
        clr_onnx::proto::TensorProto {
            data_type: Some(10),
            int32_data: values.iter().map(|v| u16::from_le_bytes(half(v)).into()).collect(),
            ..base
        },
    ];
    for weight in variants {
        let mut model = Model::new(13).named("conv", "Conv", &["x", "w"], "y", &[]);
        model.graph.initializer.push(weight);
        assert_eq!(conv(model).weight.values(), values.as_slice());
    }
}

#[test]
fn unnamed_nodes_are_named_by_position() {
    let model = Model::new(13)
        .floats("w", &[3, 3, 1, 1], &ramp(9))
        .named("", "Conv", &["x", "w"], "a", &[])
        .named("same", "Conv", &["a", "w"], "b", &[])
        .named("same", "Conv", &["b", "w"], "c", &[])
        .named("head", "Conv", &["c", "w"], "y", &[]);
    let backbone = model.output("y").load().unwrap();
    let names: Vec<_> = backbone.sites().iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["conv_0", "conv_1", "conv_2", "conv_3"]);
}
