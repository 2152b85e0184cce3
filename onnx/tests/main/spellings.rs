//! Forms of older and newer opsets, and of exporters that compute their weights, give the same backbone as the plain
//! network.

use clr_onnx::{Activation, Backbone, Op, proto::AttributeProto};

use crate::support::{Model, float, int, ints, ramp, tensor};

/// Returns the operations after the convolution `conv`, without the pool that the import appends. The model's nodes
/// read `c` and produce `y`.
fn after_conv(model: Model) -> Vec<Op> {
    let mut ops = model.output("y").ops();
    assert!(matches!(ops.first(), Some(Op::Conv(_))), "{ops:?}");
    ops.truncate(ops.len() - 2);
    ops.split_off(1)
}

fn digest(model: Model) -> clr_adapters::Digest {
    model
        .output("y")
        .load()
        .unwrap_or_else(|error| panic!("{error}"))
        .digest()
}

#[test]
fn min_and_max_with_a_constant_are_one_clip() {
    let model = || {
        Model::new(13)
            .conv()
            .floats("0", &[], &[0.0])
            .floats("6", &[1, 1, 1, 1], &[6.0])
    };
    let clip = Op::Activation(Activation::Clip { min: 0.0, max: 6.0 });
    let spellings = [
        model()
            .node("Max", &["c", "0"], "m", &[])
            .node("Min", &["m", "6"], "y", &[]),
        model()
            .node("Min", &["6", "c"], "m", &[])
            .node("Max", &["0", "m"], "y", &[]),
        model()
            .node("Relu", &["c"], "m", &[])
            .node("Min", &["m", "6"], "y", &[]),
    ];
    for model in spellings {
        assert_eq!(after_conv(model), std::slice::from_ref(&clip));
    }
    let one_sided = model().node("Max", &["c", "0"], "y", &[]);
    assert_eq!(after_conv(one_sided), [Op::Activation(Activation::Relu)]);
    // A Relu with another reader is not merged.
    let shared = model()
        .node("Relu", &["c"], "r", &[])
        .node("Min", &["r", "6"], "m", &[])
        .node("Add", &["r", "m"], "y", &[]);
    assert_eq!(after_conv(shared), [Op::Activation(Activation::Relu), clip, Op::Add]);
}

#[test]
fn a_sum_of_two_is_an_addition_and_swish_a_silu() {
    let model = || Model::new(24).conv().node("Relu", &["c"], "r", &[]);
    let sum = after_conv(model().node("Sum", &["c", "r"], "y", &[]));
    assert_eq!(sum, [Op::Activation(Activation::Relu), Op::Add]);
    let swish = after_conv(Model::new(24).conv().node("Swish", &["c"], "y", &[float("alpha", 1.0)]));
    assert_eq!(swish, [Op::Activation(Activation::Silu)]);
    let other = Model::new(24).conv().node("Swish", &["c"], "y", &[float("alpha", 1.7)]);
    assert!(matches!(after_conv(other)[..], [Op::Opaque(_)]));
}

#[test]
fn small_powers_are_products() {
    let power = |model: Model| after_conv(model.node("Pow", &["c", "p"], "y", &[]));
    assert_eq!(power(Model::new(13).conv().floats("p", &[], &[2.0])), [Op::Mul]);
    assert_eq!(
        power(Model::new(13).conv().integers("p", &[1], &[3])),
        [Op::Mul, Op::Mul]
    );
    assert!(matches!(
        power(Model::new(13).conv().floats("p", &[], &[0.5]))[..],
        [Op::Opaque(_)]
    ));
}

#[test]
fn training_flags_that_are_off_change_nothing() {
    let plain = || Model::new(22).conv();
    let dropout = |flag: i64| {
        plain()
            .floats("ratio", &[], &[0.5])
            .integers("flag", &[], &[flag])
            .node("Dropout", &["c", "ratio", "flag"], "y", &[])
    };
    assert_eq!(after_conv(dropout(0)), []);
    assert!(dropout(1).output("y").error().contains("model.eval()"));
    assert_eq!(
        after_conv(
            Model::new(9)
                .conv()
                .node("Dropout", &["c"], "y", &[float("ratio", 0.2)])
        ),
        []
    );
    let norm = |attributes: &[AttributeProto]| {
        plain()
            .floats("v", &[2], &ramp(2))
            .node("BatchNormalization", &["c", "v", "v", "v", "v"], "y", attributes)
    };
    let off = [int("spatial", 1), int("training_mode", 0), float("momentum", 0.9)];
    assert_eq!(after_conv(norm(&off)), after_conv(norm(&[])));
    for (attribute, on) in [("training_mode", 1), ("spatial", 0)] {
        assert!(
            norm(&[int(attribute, on)])
                .output("y")
                .error()
                .contains("inference mode")
        );
    }
}

#[test]
fn a_mean_without_axes_is_refused_unless_it_says_that_it_does_nothing() {
    let mean = |attributes: &[AttributeProto]| Model::new(18).conv().node("ReduceMean", &["c"], "y", attributes);
    assert!(mean(&[]).output("y").error().contains("it mixes the images of a batch"));
    assert_eq!(after_conv(mean(&[int("noop_with_empty_axes", 1)])), []);
}

#[test]
fn axes_are_attributes_or_inputs_and_slices_too() {
    // The batch in the target is sliced from the shape: with attributes before opset 10, with inputs since.
    let flatten = |opset: i64| {
        let model = Model::new(opset)
            .conv()
            .node("Shape", &["c"], "s", &[])
            .integers("zero", &[1], &[0])
            .integers("one", &[1], &[1])
            .integers("rest", &[1], &[-1]);
        let model = if opset < 10 {
            let attributes = [ints("starts", &[0]), ints("ends", &[1]), ints("axes", &[0])];
            model.node("Slice", &["s"], "n", &attributes)
        } else {
            model.node("Slice", &["s", "zero", "one", "zero"], "n", &[])
        };
        model
            .node("Concat", &["n", "rest"], "t", &[int("axis", 0)])
            .node("Reshape", &["c", "t"], "y", &[])
    };
    assert_eq!(digest(flatten(9)), digest(flatten(22)));
    let squeeze = |opset: i64| {
        let model = Model::new(opset).conv().node("GlobalAveragePool", &["c"], "p", &[]);
        if opset < 13 {
            model.node("Squeeze", &["p"], "y", &[ints("axes", &[2, 3])])
        } else {
            model
                .integers("a", &[2], &[-2, -1])
                .node("Squeeze", &["p", "a"], "y", &[])
        }
    };
    assert_eq!(digest(squeeze(7)), digest(squeeze(23)));
}

/// Returns the backbone of a model whose convolution `conv` has the weights `w` that `how` computes.
fn convolved(how: impl FnOnce(Model) -> Model) -> Backbone {
    let model = how(Model::new(13))
        .named("conv", "Conv", &["x", "w"], "c", &[])
        .output("c");
    model.load().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn weights_that_are_computed_from_constants_are_constants() {
    let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let value = |dims: &[i64], values: &[f32]| AttributeProto {
        i: None,
        t: Some(tensor("", dims, values)),
        ..int("value", 0)
    };
    let plain = Model::new(13).conv().output("c").load().unwrap();
    let ways: [&dyn Fn(Model) -> Model; 9] = [
        // TensorFlow's order: height, width, inputs, outputs.
        &|model| {
            model.floats("k", &[1, 1, 3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]).node(
                "Transpose",
                &["k"],
                "w",
                &[ints("perm", &[3, 2, 0, 1])],
            )
        },
        // All axes in reverse without a perm.
        &|model| {
            model
                .floats("k", &[1, 1, 3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
                .node("Transpose", &["k"], "w", &[])
        },
        &|model| {
            model
                .floats("k", &[6], &rows)
                .integers("s", &[4], &[2, -1, 1, 1])
                .node("Reshape", &["k", "s"], "w", &[])
        },
        &|model| {
            model
                .floats("k", &[2, 3], &rows)
                .integers("a", &[2], &[-1, 2])
                .node("Unsqueeze", &["k", "a"], "w", &[])
        },
        &|model| {
            model
                .floats("k", &[2, 3, 1, 1], &rows.map(|value| value / 2.0))
                .floats("two", &[2, 1, 1, 1], &[2.0, 2.0])
                .node("Mul", &["k", "two"], "w", &[])
        },
        // Weight normalisation: the direction divided by its length, times a gain.
        &|model| {
            model
                .floats("v", &[2, 3, 1, 1], &rows.map(|value| value * 3.0))
                .floats("square", &[2, 1, 1, 1], &[9.0, 9.0])
                .node("Sqrt", &["square"], "length", &[])
                .node("Div", &["v", "length"], "w", &[])
        },
        &|model| {
            model
                .node("Constant", &[], "k", &[value(&[2, 3, 1, 1], &rows)])
                .node("Identity", &["k"], "i", &[])
                .node("Identity", &["i"], "w", &[])
        },
        &|model| {
            let floats = AttributeProto {
                i: None,
                floats: rows.to_vec(),
                ..int("value_floats", 0)
            };
            let ints = AttributeProto {
                i: None,
                ints: vec![2, 3, 1, 1],
                ..int("value_ints", 0)
            };
            model
                .node("Constant", &[], "k", &[floats])
                .node("Constant", &[], "s", &[ints])
                .node("Reshape", &["k", "s"], "w", &[])
        },
        &|model| {
            model
                .floats("a", &[1, 3, 1, 1], &rows[..3])
                .floats("b", &[1, 3, 1, 1], &rows[3..])
                .node("Concat", &["a", "b"], "w", &[int("axis", 0)])
        },
    ];
    for (index, way) in ways.into_iter().enumerate() {
        assert_eq!(convolved(way), plain, "way {index}");
    }
}

#[test]
fn one_initialiser_may_serve_several_nodes_in_several_forms() {
    let shared = Model::new(13)
        .floats("w", &[3, 3, 1, 1], &ramp(9))
        .named("a", "Conv", &["x", "w"], "a", &[])
        .node("Transpose", &["w"], "t", &[ints("perm", &[1, 0, 2, 3])])
        .named("b", "Conv", &["a", "t"], "b", &[])
        .named("c", "Conv", &["b", "w"], "y", &[]);
    let [first, second] = [0, 1].map(|start| {
        (0..9)
            .map(move |place| ramp(9)[if start == 0 { place } else { place % 3 * 3 + place / 3 }])
            .collect::<Vec<_>>()
    });
    let copies = Model::new(13)
        .floats("w0", &[3, 3, 1, 1], &first)
        .floats("w1", &[3, 3, 1, 1], &second)
        .floats("w2", &[3, 3, 1, 1], &first)
        .named("a", "Conv", &["x", "w0"], "a", &[])
        .named("b", "Conv", &["a", "w1"], "b", &[])
        .named("c", "Conv", &["b", "w2"], "y", &[]);
    assert_eq!(digest(shared), digest(copies));
}

#[test]
fn a_slice_of_everything_changes_nothing() {
    let slice = |end: i64| {
        Model::new(17)
            .conv()
            .integers("start", &[1], &[0])
            .integers("end", &[1], &[end])
            .integers("axis", &[1], &[1])
            .node("Slice", &["c", "start", "end", "axis"], "y", &[])
    };
    for all in [2, i64::MAX] {
        assert_eq!(after_conv(slice(all)), []);
    }
    assert_eq!(after_conv(slice(1)), [Op::GatherChannels { index: [0].into() }]);
}

#[test]
fn a_clip_of_constants_is_a_constant() {
    let clipped = |model: Model| {
        model
            .floats("k", &[2, 3, 1, 1], &[-1.0, 2.0, 3.0, 4.0, 5.0, 60.0])
            .floats("low", &[], &[1.0])
            .floats("high", &[], &[6.0])
            .node("Clip", &["k", "low", "high"], "w", &[])
    };
    assert_eq!(convolved(clipped), Model::new(13).conv().output("c").load().unwrap());
}

#[test]
fn weights_that_the_graph_standardises_are_standardised_once() {
    let rows = [1.0_f32, 2.0, 3.0, 10.0, 30.0, 50.0];
    let expected: Vec<f32> = rows
        .chunks(3)
        .flat_map(|row| {
            let mean = row.iter().sum::<f32>() / 3.0;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 3.0;
            row.iter()
                .map(move |value| (value - mean) / (variance + 1e-5).sqrt() * 0.5)
        })
        .collect();
    let weight = |how: &dyn Fn(Model) -> Model| {
        let Op::Conv(conv) = convolved(how).graph().nodes[0].op.clone() else {
            panic!("no convolution")
        };
        conv.weight.values().into_owned()
    };
    // The same as a norm of the weights in training mode, as timm exports it.
    let norm = |model: Model| {
        let model = model.floats("k", &[1, 2, 3], &rows).floats("gain", &[2], &[0.5; 2]);
        model
            .floats("nought", &[2], &[0.0; 2])
            .node(
                "BatchNormalization",
                &["k", "gain", "nought", "nought", "gain"],
                "n",
                &[int("training_mode", 1)],
            )
            .integers("s", &[4], &[2, 3, 1, 1])
            .node("Reshape", &["n", "s"], "w", &[])
    };
    // Written out.
    let arithmetic = |model: Model| {
        model
            .floats("k", &[2, 3, 1, 1], &rows)
            .floats("tiny", &[], &[1e-5])
            .floats("half", &[], &[0.5])
            .floats("two", &[], &[2.0])
            .node("ReduceMean", &["k"], "mean", &[ints("axes", &[1, 2, 3])])
            .node("Sub", &["k", "mean"], "d", &[])
            .node("Pow", &["d", "two"], "p", &[])
            .node("ReduceMean", &["p"], "v", &[ints("axes", &[1, 2, 3])])
            .node("Add", &["v", "tiny"], "ve", &[])
            .node("Sqrt", &["ve"], "s", &[])
            .node("Div", &["d", "s"], "n", &[])
            .node("Mul", &["n", "half"], "w", &[])
    };
    for got in [weight(&norm), weight(&arithmetic)] {
        assert!(
            got.iter()
                .zip(&expected)
                .all(|(got, expected)| (got - expected).abs() < 1e-6),
            "{got:?}"
        );
    }
}
