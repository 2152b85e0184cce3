//! Every operator arrives in the canonical graph as what it computes, in each of the spellings that exporters use.

use clr_onnx::{Activation, BatchNorm, Conv, Op, PadMode, Padding, Pool, Tensor};

use crate::support::{Model, float, int, ints, ramp, string, tensor};

fn vector(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values)
}

/// The operations between the convolution `conv` and the pool that the import appends, for nodes that read `c` and produce `y`.
fn behind_conv(model: Model) -> Vec<Op> {
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
        weight: Tensor::new([6, 1, 3, 2], ramp(36)),
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
    let ops = behind_conv(model.node(
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
fn activations_arrive_with_their_parameters() {
    let cases = [
        ("Relu", vec![], Activation::Relu),
        ("LeakyRelu", vec![], Activation::LeakyRelu { alpha: 0.01 }),
        (
            "LeakyRelu",
            vec![float("alpha", 0.3)],
            Activation::LeakyRelu { alpha: 0.3 },
        ),
        ("Sigmoid", vec![], Activation::Sigmoid),
        ("HardSigmoid", vec![], Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        ("HardSwish", vec![], Activation::HardSwish),
        (
            "Clip",
            vec![float("min", 0.0), float("max", 6.0)],
            Activation::Clip { min: 0.0, max: 6.0 },
        ),
    ];
    for (op, attributes, expected) in cases {
        assert_eq!(
            behind_conv(Model::new(14).conv().node(op, &["c"], "y", &attributes)),
            [Op::Activation(expected)],
            "{op}"
        );
    }
}

#[test]
fn clip_takes_its_bounds_from_inputs_and_may_leave_one_open() {
    let model = || {
        Model::new(13)
            .conv()
            .floats("low", &[], &[0.0])
            .floats("high", &[], &[6.0])
    };
    let clip = |min, max| vec![Op::Activation(Activation::Clip { min, max })];
    assert_eq!(
        behind_conv(model().node("Clip", &["c", "low", "high"], "y", &[])),
        clip(0.0, 6.0)
    );
    assert_eq!(
        behind_conv(model().node("Clip", &["c", "", "high"], "y", &[])),
        clip(f32::NEG_INFINITY, 6.0)
    );
    assert_eq!(
        behind_conv(model().node("Clip", &["c", "low"], "y", &[])),
        clip(0.0, f32::INFINITY)
    );
    assert_eq!(behind_conv(model().node("Clip", &["c"], "y", &[])), []);
}

#[test]
fn prelu_slopes_become_one_per_channel() {
    for (dims, values, expected) in [
        (&[2, 1, 1][..], &[0.1, 0.2][..], [0.1, 0.2]),
        (&[1], &[0.3], [0.3, 0.3]),
        (&[1, 2, 1, 1], &[0.1, 0.2], [0.1, 0.2]),
    ] {
        let ops = behind_conv(
            Model::new(13)
                .conv()
                .floats("s", dims, values)
                .node("PRelu", &["c", "s"], "y", &[]),
        );
        assert_eq!(
            ops,
            [Op::PRelu {
                slope: vector(&expected)
            }]
        );
    }
}

#[test]
fn x_times_sigmoid_of_x_is_a_silu_in_either_order() {
    for inputs in [["c", "s"], ["s", "c"]] {
        let model = Model::new(13)
            .conv()
            .node("Sigmoid", &["c"], "s", &[])
            .node("Mul", &inputs, "y", &[]);
        assert_eq!(behind_conv(model), [Op::Activation(Activation::Silu)]);
    }
}

#[test]
fn a_sigmoid_that_is_read_twice_stays_a_sigmoid() {
    let model = Model::new(13)
        .conv()
        .node("Sigmoid", &["c"], "s", &[])
        .node("Mul", &["c", "s"], "m", &[])
        .node("Add", &["m", "s"], "y", &[]);
    assert_eq!(
        behind_conv(model),
        [Op::Activation(Activation::Sigmoid), Op::Mul, Op::Add]
    );
}

#[test]
fn hard_swish_is_found_in_every_spelling() {
    let base = || {
        Model::new(13)
            .conv()
            .floats("3", &[], &[3.0])
            .floats("6", &[], &[6.0])
            .floats("0", &[], &[0.0])
            .floats("sixth", &[], &[1.0 / 6.0])
    };
    let clipped = || {
        base()
            .node("Add", &["c", "3"], "a", &[])
            .node("Clip", &["a", "0", "6"], "k", &[])
    };
    let spellings = [
        clipped()
            .node("Mul", &["c", "k"], "m", &[])
            .node("Div", &["m", "6"], "y", &[]),
        clipped()
            .node("Mul", &["k", "c"], "m", &[])
            .node("Mul", &["m", "sixth"], "y", &[]),
        clipped()
            .node("Div", &["k", "6"], "g", &[])
            .node("Mul", &["c", "g"], "y", &[]),
        base()
            .node(
                "HardSigmoid",
                &["c"],
                "g",
                &[float("alpha", 1.0 / 6.0), float("beta", 0.5)],
            )
            .node("Mul", &["c", "g"], "y", &[]),
    ];
    for model in spellings {
        assert_eq!(behind_conv(model), [Op::Activation(Activation::HardSwish)]);
    }
    let gate = clipped().node("Div", &["k", "6"], "y", &[]);
    assert_eq!(
        behind_conv(gate),
        [Op::Activation(Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5
        })]
    );
}

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
    assert_eq!(behind_conv(model), [Op::Activation(Activation::Relu), affine]);
}

#[test]
fn a_constant_minus_a_value_turns_its_sign() {
    let model = Model::new(13)
        .conv()
        .node("Relu", &["c"], "r", &[])
        .floats("two", &[], &[2.0])
        .node("Sub", &["two", "r"], "y", &[]);
    let affine = Op::ChannelAffine {
        scale: vector(&[-1.0, -1.0]),
        bias: vector(&[2.0, 2.0]),
    };
    assert_eq!(behind_conv(model)[1], affine);
}

#[test]
fn an_addition_behind_a_convolution_is_its_bias() {
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
    let ops = behind_conv(
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

#[test]
fn values_are_added_multiplied_and_concatenated() {
    let model = || Model::new(13).conv().node("Relu", &["c"], "r", &[]);
    let relu = Op::Activation(Activation::Relu);
    assert_eq!(
        behind_conv(model().node("Add", &["c", "r"], "y", &[])),
        [relu.clone(), Op::Add]
    );
    assert_eq!(
        behind_conv(model().node("Concat", &["c", "r", "c"], "y", &[int("axis", -3)])),
        [relu.clone(), Op::Concat]
    );
    let gated = model()
        .node("GlobalAveragePool", &["r"], "g", &[])
        .node("Mul", &["c", "g"], "y", &[]);
    assert_eq!(behind_conv(gated), [relu, Op::GlobalAveragePool, Op::Mul]);
}

#[test]
fn pools_keep_window_ceil_mode_and_border() {
    let attributes = [
        ints("kernel_shape", &[3, 2]),
        ints("strides", &[2, 1]),
        ints("pads", &[1, 0, 1, 1]),
        int("ceil_mode", 1),
    ];
    let pool = Pool {
        kernel: [3, 2],
        stride: [2, 1],
        padding: Padding::Explicit([1, 0, 1, 1]),
        ceil: true,
        count_include_pad: false,
    };
    assert_eq!(
        behind_conv(Model::new(13).conv().node("MaxPool", &["c"], "y", &attributes)),
        [Op::MaxPool(pool)]
    );
    let mut attributes = attributes.to_vec();
    attributes.push(int("count_include_pad", 1));
    let pool = Pool {
        count_include_pad: true,
        ..pool
    };
    assert_eq!(
        behind_conv(Model::new(13).conv().node("AveragePool", &["c"], "y", &attributes)),
        [Op::AveragePool(pool)]
    );
}

#[test]
fn a_mean_over_height_and_width_is_a_global_average_pool() {
    let conv = || Model::new(18).conv().integers("axes", &[2], &[-1, 2]);
    let pooled = [
        conv().node("ReduceMean", &["c"], "y", &[ints("axes", &[2, 3])]),
        conv().node(
            "ReduceMean",
            &["c"],
            "y",
            &[ints("axes", &[-1, -2]), int("keepdims", 0)],
        ),
        conv().node("ReduceMean", &["c", "axes"], "y", &[]),
        conv().node("ReduceMean", &["c", "axes"], "y", &[int("keepdims", 0)]),
        conv().node("GlobalAveragePool", &["c"], "y", &[]),
    ];
    for model in pooled {
        let ops = model.output("y").ops();
        assert_eq!(ops[1..], [Op::GlobalAveragePool, Op::Flatten]);
    }
}

#[test]
fn padding_comes_from_attributes_or_inputs() {
    let expected = [Op::Pad {
        pads: [1, 2, 3, 4],
        mode: PadMode::Constant(0.5),
    }];
    let conv = || Model::new(18).conv().floats("v", &[], &[0.5]);
    let whole = conv().integers("p", &[8], &[0, 0, 1, 2, 0, 0, 3, 4]).node(
        "Pad",
        &["c", "p", "v"],
        "y",
        &[string("mode", "constant")],
    );
    assert_eq!(behind_conv(whole), expected);
    let axes = conv()
        .integers("p", &[4], &[2, 1, 4, 3])
        .integers("a", &[2], &[3, -2])
        .node("Pad", &["c", "p", "v", "a"], "y", &[]);
    assert_eq!(behind_conv(axes), expected);
    let attribute = conv().node(
        "Pad",
        &["c"],
        "y",
        &[ints("pads", &[0, 0, 1, 2, 0, 0, 3, 4]), float("value", 0.5)],
    );
    assert_eq!(behind_conv(attribute), expected);
}

/// A model that flattens the pooled features in `how` and ends in a Gemm.
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
    // The second dense layer is the classifier; the first stays in the graph.
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
fn what_changes_nothing_is_left_out() {
    let model = Model::new(13)
        .floats("w0", &[2, 3, 1, 1], &ramp(6))
        .node("Identity", &["w0"], "w", &[])
        .named("conv", "Conv", &["x", "w"], "c", &[])
        .node("Identity", &["c"], "i", &[])
        .node("Dropout", &["i"], "y", &[]);
    assert_eq!(behind_conv(model), []);
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
        behind_conv(model),
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
        assert_eq!(conv(model).weight.data(), values);
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

#[test]
fn nodes_without_a_name_of_their_own_get_one_by_place() {
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
