//! Activations and norms that exporters write as several nodes become a single operation.

use clr_onnx::{Activation, Coordinates, Op, PadMode, Resize, ResizeMode, ResizeTarget, Rounding, Tensor};

use crate::support::{Model, float, int, ints, ramp, string};

/// Returns the operations after the convolution, without the final pool and flattening.
fn after(model: Model) -> Vec<Op> {
    let mut ops = model.output("y").ops();
    assert_eq!(ops.split_off(ops.len() - 2), [Op::GlobalAveragePool, Op::Flatten]);
    ops.split_off(1)
}

fn constants(opset: i64) -> Model {
    Model::new(opset)
        .conv()
        .floats("root", &[], &[std::f32::consts::SQRT_2])
        .floats("inverse", &[1], &[std::f32::consts::FRAC_1_SQRT_2])
        .floats("one", &[], &[1.0])
        .floats("half", &[], &[0.5])
        .floats("two", &[], &[2.0])
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values)
}

#[test]
fn gelu_is_found_in_every_order_of_its_factors() {
    let gelu = [Op::Activation(Activation::Gelu)];
    let by_root = constants(13)
        .node("Div", &["c", "root"], "d", &[])
        .node("Erf", &["d"], "e", &[])
        .node("Add", &["e", "one"], "g", &[]);
    let copy = |model: &Model| Model {
        graph: model.graph.clone(),
        opset: model.opset,
    };
    let models = [
        copy(&by_root)
            .node("Mul", &["c", "g"], "m", &[])
            .node("Mul", &["m", "half"], "y", &[]),
        copy(&by_root)
            .node("Mul", &["half", "c"], "m", &[])
            .node("Mul", &["m", "g"], "y", &[]),
        copy(&by_root)
            .node("Mul", &["half", "g"], "m", &[])
            .node("Mul", &["c", "m"], "y", &[]),
        copy(&by_root)
            .node("Mul", &["g", "c"], "m", &[])
            .node("Div", &["m", "two"], "y", &[]),
        constants(13)
            .node("Mul", &["inverse", "c"], "d", &[])
            .node("Erf", &["d"], "e", &[])
            .node("Mul", &["e", "half"], "h", &[])
            .node("Add", &["half", "h"], "g", &[])
            .node("Mul", &["c", "g"], "y", &[]),
        constants(20).node("Gelu", &["c"], "y", &[]),
    ];
    for model in models {
        assert_eq!(after(model), gelu);
    }
    // Another scale is another function.
    let other = constants(13)
        .node("Div", &["c", "two"], "d", &[])
        .node("Erf", &["d"], "e", &[])
        .node("Add", &["e", "one"], "g", &[])
        .node("Mul", &["c", "g"], "m", &[])
        .node("Mul", &["m", "half"], "y", &[]);
    assert!(after(other).iter().any(|op| matches!(op, Op::Opaque(_))));
}

#[test]
fn the_tanh_form_of_gelu_and_mish_are_found() {
    let tanh = constants(13)
        .floats("three", &[], &[3.0])
        .floats("cubic", &[], &[0.044_715])
        .floats("scale", &[], &[(2.0 / std::f32::consts::PI).sqrt()])
        .node("Pow", &["c", "three"], "p", &[])
        .node("Mul", &["cubic", "p"], "q", &[])
        .node("Add", &["c", "q"], "s", &[])
        .node("Mul", &["scale", "s"], "t", &[])
        .node("Tanh", &["t"], "h", &[])
        .node("Add", &["one", "h"], "g", &[])
        .node("Mul", &["half", "c"], "m", &[])
        .node("Mul", &["m", "g"], "y", &[]);
    assert_eq!(after(tanh), [Op::Activation(Activation::GeluTanh)]);
    let named = constants(20).node("Gelu", &["c"], "y", &[string("approximate", "tanh")]);
    assert_eq!(after(named), [Op::Activation(Activation::GeluTanh)]);
    let mish = constants(13)
        .node("Softplus", &["c"], "s", &[])
        .node("Tanh", &["s"], "t", &[])
        .node("Mul", &["t", "c"], "y", &[]);
    assert_eq!(after(mish), [Op::Activation(Activation::Mish)]);
    let spelled = constants(13)
        .node("Exp", &["c"], "e", &[])
        .node("Add", &["e", "one"], "s", &[])
        .node("Log", &["s"], "l", &[])
        .node("Tanh", &["l"], "t", &[])
        .node("Mul", &["c", "t"], "y", &[]);
    assert_eq!(after(spelled), [Op::Activation(Activation::Mish)]);
    let elu = constants(13)
        .node("Elu", &["c"], "e", &[float("alpha", 0.5)])
        .node("Tanh", &["e"], "y", &[]);
    assert_eq!(
        after(elu),
        [
            Op::Activation(Activation::Elu { alpha: 0.5 }),
            Op::Activation(Activation::Tanh)
        ]
    );
}

#[test]
fn layer_norm_over_channels_is_one_operation_in_either_spelling() {
    let expected = [Op::LayerNorm {
        scale: vector(&[2.0, 3.0]),
        bias: vector(&[4.0, 5.0]),
        epsilon: 1e-6,
    }];
    let operator = Model::new(17)
        .conv()
        .floats("s", &[2], &[2.0, 3.0])
        .floats("b", &[2], &[4.0, 5.0])
        .node("Transpose", &["c"], "l", &[ints("perm", &[0, 2, 3, 1])])
        .node(
            "LayerNormalization",
            &["l", "s", "b"],
            "n",
            &[int("axis", -1), float("epsilon", 1e-6)],
        )
        .node("Transpose", &["n"], "y", &[ints("perm", &[0, 3, 1, 2])]);
    assert_eq!(after(operator), expected);
    let written = |square: bool| {
        let model = constants(13)
            .floats("eps", &[], &[1e-6])
            .floats("s", &[1, 2, 1, 1], &[2.0, 3.0])
            .floats("b", &[1, 2, 1, 1], &[4.0, 5.0])
            .node("ReduceMean", &["c"], "u", &[ints("axes", &[1])])
            .node("Sub", &["c", "u"], "d", &[]);
        let model = if square {
            model.node("Mul", &["d", "d"], "q", &[])
        } else {
            model.node("Pow", &["d", "two"], "q", &[])
        };
        model
            .node("ReduceMean", &["q"], "v", &[ints("axes", &[-3])])
            .node("Add", &["v", "eps"], "ve", &[])
            .node("Sqrt", &["ve"], "r", &[])
            .node("Div", &["d", "r"], "n", &[])
            .node("Mul", &["n", "s"], "m", &[])
            .node("Add", &["m", "b"], "y", &[])
    };
    for square in [false, true] {
        assert_eq!(after(written(square)), expected);
    }
}

#[test]
fn group_norms_are_found_in_the_exporters_reshapes_and_as_operators() {
    let group = |groups: usize| Op::GroupNorm {
        groups,
        scale: vector(&[1.0, 1.0]),
        bias: vector(&[0.0, 0.0]),
        epsilon: 1e-5,
    };
    let instance = Model::new(17)
        .conv()
        .floats("s", &[2], &[1.0, 1.0])
        .floats("b", &[2], &[0.0, 0.0])
        .node("InstanceNormalization", &["c", "s", "b"], "y", &[]);
    assert_eq!(after(instance), [group(2)]);
    let reshaped = Model::new(17)
        .conv()
        .floats("s", &[1], &[1.0])
        .floats("b", &[1], &[0.0])
        .integers("g", &[3], &[0, 1, -1])
        .integers("m", &[4], &[0, 2, 8, 8])
        .node("Reshape", &["c", "g"], "r", &[])
        .node("InstanceNormalization", &["r", "s", "b"], "n", &[])
        .node("Reshape", &["n", "m"], "y", &[]);
    assert_eq!(after(reshaped), [group(1)]);
    let operator = Model::new(21)
        .conv()
        .floats("s", &[2], &[1.0, 1.0])
        .floats("b", &[2], &[0.0, 0.0])
        .node("GroupNormalization", &["c", "s", "b"], "y", &[int("num_groups", 1)]);
    assert_eq!(after(operator), [group(1)]);
}

#[test]
fn global_response_norm_is_one_operation_in_either_layout() {
    let expected = [Op::GlobalResponseNorm {
        scale: vector(&[2.0, 3.0]),
        bias: vector(&[4.0, 5.0]),
        epsilon: 1e-6,
    }];
    let model = |last: bool| {
        let (axes, channels, dims) = if last {
            ([1, 2], -1, [1, 1, 1, 2])
        } else {
            ([2, 3], 1, [1, 2, 1, 1])
        };
        let model = constants(13)
            .floats("eps", &[], &[1e-6])
            .floats("s", &dims, &[2.0, 3.0])
            .floats("b", &dims, &[4.0, 5.0]);
        let model = if last {
            model.node("Transpose", &["c"], "l", &[ints("perm", &[0, 2, 3, 1])])
        } else {
            model.node("Identity", &["c"], "l", &[])
        };
        let model = model
            .node("ReduceL2", &["l"], "g", &[ints("axes", &axes)])
            .node("ReduceMean", &["g"], "m", &[ints("axes", &[channels])])
            .node("Add", &["m", "eps"], "a", &[])
            .node("Div", &["g", "a"], "n", &[])
            .node("Mul", &["l", "n"], "p", &[])
            .node("Mul", &["s", "p"], "q", &[])
            .node("Add", &["b", "q"], "r", &[])
            .node("Add", &["l", "r"], "o", &[]);
        if last {
            model.node("Transpose", &["o"], "y", &[ints("perm", &[0, 3, 1, 2])])
        } else {
            model.node("Identity", &["o"], "y", &[])
        }
    };
    // An Identity is no other value.
    assert_eq!(after(model(true)), expected);
    assert_eq!(after(model(false)), expected);
}

#[test]
fn resize_takes_scales_or_sizes_and_old_upsample() {
    let resize = |target, mode, coordinates| {
        vec![Op::Resize(Resize {
            target,
            mode,
            coordinates,
        })]
    };
    let nearest = ResizeMode::Nearest(Rounding::Floor);
    let old = Model::new(9).conv().floats("s", &[4], &[1.0, 1.0, 2.0, 2.0]).node(
        "Upsample",
        &["c", "s"],
        "y",
        &[string("mode", "nearest")],
    );
    assert_eq!(
        after(old),
        resize(ResizeTarget::Scale([2.0; 2]), nearest, Coordinates::Asymmetric)
    );
    let scales = Model::new(13).conv().floats("s", &[4], &[1.0, 1.0, 2.0, 1.5]).node(
        "Resize",
        &["c", "", "s"],
        "y",
        &[string("mode", "linear")],
    );
    assert_eq!(
        after(scales),
        resize(
            ResizeTarget::Scale([2.0, 1.5]),
            ResizeMode::Bilinear,
            Coordinates::HalfPixel
        )
    );
    let sizes = Model::new(18).conv().integers("s", &[2], &[4, 5]).node(
        "Resize",
        &["c", "", "", "s"],
        "y",
        &[
            ints("axes", &[2, 3]),
            string("mode", "linear"),
            string("coordinate_transformation_mode", "align_corners"),
        ],
    );
    assert_eq!(
        after(sizes),
        resize(
            ResizeTarget::Size([4, 5]),
            ResizeMode::Bilinear,
            Coordinates::AlignCorners
        )
    );
}

#[test]
fn every_mode_of_padding_is_kept() {
    for (name, mode) in [
        ("reflect", PadMode::Reflect),
        ("edge", PadMode::Edge),
        ("wrap", PadMode::Wrap),
    ] {
        let model = Model::new(19)
            .conv()
            .integers("p", &[8], &[0, 0, 1, 2, 0, 0, 0, 0])
            .node("Pad", &["c", "p"], "y", &[string("mode", name)]);
        let expected = Op::Pad {
            pads: [1, 2, 0, 0],
            mode,
        };
        assert_eq!(after(model), [expected]);
    }
    let large = Model::new(19)
        .conv()
        .integers("p", &[8], &[0, 0, 8, 0, 0, 0, 0, 0])
        .node("Pad", &["c", "p"], "m", &[string("mode", "reflect")])
        .floats("k", &[2, 2, 1, 1], &ramp(4))
        .node("Conv", &["m", "k"], "y", &[]);
    // If the padding exceeds the mirror's size, the file's nodes are kept as an opaque step.
    assert!(after(large).iter().any(|op| matches!(op, Op::Opaque(_))));
}
