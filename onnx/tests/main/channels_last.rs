//! Exports with channels last give the same backbone as those with channels first.

use clr_onnx::{Backbone, Op};

use crate::support::{Model, info, int, ints, ramp, string};

const TO_FIRST: [i64; 4] = [0, 3, 1, 2];
const TO_LAST: [i64; 4] = [0, 2, 3, 1];

/// A model with input `x [N, 8, 8, 3]`.
fn last(opset: i64) -> Model {
    let mut model = Model::bare(opset);
    model.graph.input.push(info("x", &[None, Some(8), Some(8), Some(3)]));
    model
}

fn transposed(model: Model, from: &str, to: &str, perm: [i64; 4]) -> Model {
    model.named(
        &format!("{to}.transpose"),
        "Transpose",
        &[from],
        to,
        &[ints("perm", &perm)],
    )
}

/// A classifier of four classes on `f`.
fn classified(model: Model, features: usize) -> Model {
    model
        .floats("k", &[features as i64, 4], &ramp(4 * features))
        .node("MatMul", &["f", "k"], "y", &[])
        .output("y")
}

fn load(model: Model) -> Backbone {
    model.load().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns a network in either layout: convolutions, one of them depthwise, per-channel constants, bounds, a Pad, a
/// pool, a gate and a Concat.
pub(crate) fn network(channels_last: bool) -> Model {
    let (axis, spatial) = if channels_last { (3, [1, 2]) } else { (1, [2, 3]) };
    let dims = if channels_last { [1, 1, 1, 4] } else { [1, 4, 1, 1] };
    let pads = if channels_last {
        [0, 0, 1, 0, 0, 1, 0, 0]
    } else {
        [0, 0, 0, 1, 0, 0, 1, 0]
    };
    let base = if channels_last { last(13) } else { Model::new(13) };
    // Adds a node that needs channels first. If the model has channels last, adds Transposes around the node.
    let first = |model: Model, op: &str, inputs: [&str; 2], name: &str, attributes: &[_]| {
        let weights = Some(inputs[1]).filter(|weight| !weight.is_empty());
        if !channels_last {
            let inputs: Vec<&str> = [inputs[0]].into_iter().chain(weights).collect();
            return model.node(op, &inputs, name, attributes);
        }
        let (before, inside) = (format!("{name}.in"), format!("{name}.out"));
        let model = transposed(model, inputs[0], &before, TO_FIRST);
        let inputs: Vec<&str> = [before.as_str()].into_iter().chain(weights).collect();
        let model = model.named(name, op, &inputs, &inside, attributes);
        transposed(model, &inside, name, TO_LAST)
    };
    let model = base
        .floats("w", &[4, 3, 3, 3], &ramp(108))
        .floats("d", &[4, 1, 3, 3], &ramp(36))
        .floats("p", &[4, 4, 1, 1], &ramp(16))
        .floats("s", &dims, &ramp(4))
        .floats("b", &dims, &ramp(4))
        .integers("pads", &[8], &pads)
        .floats("low", &[], &[0.0])
        .floats("high", &[], &[6.0]);
    let same = [string("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])];
    let model = first(model, "Conv", ["x", "w"], "conv", &same)
        .node("Add", &["conv", "b"], "biased", &[])
        .node("Clip", &["biased", "low", "high"], "relu6", &[])
        .node("Pad", &["relu6", "pads"], "padded", &[]);
    let model = first(
        model,
        "Conv",
        ["padded", "d"],
        "depthwise",
        &[int("group", 4), ints("pads", &[1, 0, 0, 1])],
    )
    .node("Mul", &["depthwise", "s"], "scaled", &[])
    .node("ReduceMean", &["scaled"], "squeezed", &[ints("axes", &spatial)]);
    let model = first(model, "Conv", ["squeezed", "p"], "excite", &[])
        .node("Sigmoid", &["excite"], "gate", &[])
        .node("Mul", &["scaled", "gate"], "gated", &[]);
    let pool = [ints("kernel_shape", &[4, 4]), ints("pads", &[1, 1, 1, 1])];
    first(model, "MaxPool", ["padded", ""], "pooled", &pool)
        .node("Concat", &["gated", "pooled"], "joined", &[int("axis", axis)])
        .node(
            "ReduceMean",
            &["joined"],
            "f",
            &[ints("axes", &spatial), int("keepdims", 0)],
        )
}

#[test]
fn an_export_with_channels_last_gives_the_same_backbone() {
    let (first, second) = (load(classified(network(false), 8)), load(classified(network(true), 8)));
    assert_eq!(second.digest(), first.digest());
    assert_eq!(second, first);
    assert!(first.graph().nodes.len() > 10);
}

#[test]
fn opposite_transposes_cancel() {
    let plain = Model::new(13).conv().node("Relu", &["c"], "y", &[]).output("y");
    let model = Model::new(13).floats("w", &[2, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let model = transposed(transposed(model, "x", "a", TO_LAST), "a", "b", TO_FIRST);
    let model = model.named("conv", "Conv", &["b", "w"], "c", &[]);
    let model = transposed(model, "c", "d", TO_LAST).node("Relu", &["d"], "r", &[]);
    let mut model = transposed(model, "r", "z", TO_FIRST).output("z");
    model
        .graph
        .node
        .iter_mut()
        .filter(|node| node.name.as_deref() == Some("r"))
        .for_each(|node| {
            node.name = Some("y".into());
        });
    assert_eq!(load(model).digest(), load(plain).digest());
}

/// Returns the operations of a model that flattens after a Transpose and has two dense layers. `how` produces `f` from
/// `t`, which has the channels last.
fn flattened(how: impl FnOnce(Model) -> Model) -> Vec<Op> {
    let model = Model::new(13)
        .floats("w", &[2, 3, 7, 7], &ramp(294))
        .named("conv", "Conv", &["x", "w"], "c", &[]);
    let model = how(transposed(model, "c", "t", TO_LAST));
    model.output("y").ops()
}

#[test]
fn a_dense_layer_after_a_flattening_of_channels_last_reads_the_graphs_order() {
    // [N, 2, 2, 2]: the file's feature 2p + c is pixel p of channel c, which is feature 4c + p in the graph.
    let columns: Vec<f32> = ramp(8);
    let expected: Vec<f32> = (0..8).map(|place| columns[2 * (place % 4) + place / 4]).collect();
    let end = |model: Model| {
        model
            .floats("m", &[8, 1], &columns)
            .node("MatMul", &["f", "m"], "h", &[])
            .node("Relu", &["h"], "r", &[])
            .floats("k", &[1, 3], &ramp(3))
            .node("MatMul", &["r", "k"], "y", &[])
    };
    let ways: [fn(Model) -> Model; 4] = [
        |model| model.node("Flatten", &["t"], "f", &[]),
        |model| {
            model
                .integers("s", &[2], &[-1, 8])
                .node("Reshape", &["t", "s"], "f", &[])
        },
        |model| {
            model
                .node("Relu", &["t"], "u", &[])
                .integers("s", &[2], &[0, -1])
                .node("Reshape", &["u", "s"], "f", &[])
        },
        |model| {
            model
                .integers("s", &[3], &[0, 4, 2])
                .node("Reshape", &["t", "s"], "u", &[])
                .node("Flatten", &["u"], "f", &[])
        },
    ];
    for way in ways {
        let ops = flattened(|model| end(way(model)));
        let dense = ops.iter().find_map(|op| {
            if let Op::Dense { weight, .. } = op {
                Some(weight)
            } else {
                None
            }
        });
        assert_eq!(dense.unwrap().data(), expected);
    }
}

#[test]
fn constants_and_norms_on_a_flattened_vector_follow_its_order() {
    let values = ramp(8);
    let expected: Vec<f32> = (0..8).map(|place| values[2 * (place % 4) + place / 4]).collect();
    let ops = flattened(|model| {
        let model = model.node("Flatten", &["t"], "f", &[]).floats("s", &[8], &values);
        model
            .node("Mul", &["f", "s"], "m", &[])
            .node("Relu", &["m"], "r", &[])
            .node("BatchNormalization", &["r", "s", "s", "s", "s"], "y", &[])
    });
    let scales: Vec<&[f32]> = ops
        .iter()
        .filter_map(|op| match op {
            Op::ChannelAffine { scale, .. } => Some(scale.data()),
            Op::BatchNorm(norm) => Some(norm.variance.data()),
            _ => None,
        })
        .collect();
    assert_eq!(scales, [&expected[..]; 2]);
}

#[test]
fn flattening_and_unflattening_a_map_changes_nothing() {
    let model = Model::new(13)
        .conv()
        .node("Flatten", &["c"], "v", &[])
        .integers("s", &[4], &[-1, 2, 8, 8])
        .node("Reshape", &["v", "s"], "m", &[])
        .node("GlobalAveragePool", &["m"], "y", &[])
        .output("y");
    assert!(matches!(
        model.ops()[..],
        [Op::Conv(_), Op::GlobalAveragePool, Op::Flatten]
    ));
}

#[test]
fn a_mean_over_merged_height_and_width_is_a_global_mean() {
    let merged = Model::new(13)
        .conv()
        .integers("s", &[3], &[0, 2, -1])
        .node("Reshape", &["c", "s"], "m", &[])
        .node("ReduceMean", &["m"], "y", &[ints("axes", &[-1]), int("keepdims", 0)])
        .output("y");
    assert!(matches!(
        merged.ops()[..],
        [Op::Conv(_), Op::GlobalAveragePool, Op::Flatten]
    ));
}

#[test]
fn a_matmul_over_the_channels_is_a_pointwise_convolution() {
    let model = last(13)
        .floats("m", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
        .named("conv", "MatMul", &["x", "m"], "y", &[])
        .output("y");
    assert_eq!(load(model).digest(), load(Model::new(13).conv().output("c")).digest());
}

#[test]
fn a_gate_that_is_reshaped_to_one_pixel_gates_the_channels() {
    let gate = |dims: &[i64], channels_last: bool| {
        let (model, axes) = if channels_last {
            (transposed(Model::new(13).conv(), "c", "t", TO_LAST), [1, 2])
        } else {
            (Model::new(13).conv().node("Identity", &["c"], "t", &[]), [2, 3])
        };
        let model = model
            .node("ReduceMean", &["t"], "v", &[ints("axes", &axes), int("keepdims", 0)])
            .integers("s", &[4], dims)
            .node("Reshape", &["v", "s"], "g", &[])
            .node("Mul", &["t", "g"], "y", &[])
            .output("y");
        load(model)
    };
    assert_eq!(gate(&[-1, 1, 1, 2], true), gate(&[-1, 2, 1, 1], false));
}

#[test]
fn a_remaining_transpose_is_an_opaque_step_before_the_site() {
    let swapped = Model::new(13)
        .conv()
        .named("swap", "Transpose", &["c"], "t", &[ints("perm", &[0, 1, 3, 2])])
        .floats("v", &[2, 2, 3, 3], &ramp(36))
        .node("Conv", &["t", "v"], "y", &[])
        .output("y");
    // An opaque step converts the layout, and the convolution remains a site.
    let backbone = load(swapped);
    assert_eq!(backbone.sites().len(), 2);
    let step = backbone.graph().nodes.iter().find_map(|node| match &node.op {
        Op::Opaque(step) => Some(step.operators().map(str::to_owned).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(step, Some(vec!["Transpose".to_owned()]));
    let batch = Model::new(13)
        .conv()
        .node("Transpose", &["c"], "y", &[ints("perm", &[1, 0, 2, 3])])
        .output("y");
    assert!(batch.error().contains("`y` is no vector or map per image"));
}

#[test]
fn tensors_in_different_layouts_are_not_mixed() {
    // Both are [N, 8, 8, 8], so the sizes alone do not reveal the different layouts.
    let base = || {
        let model = Model::new(13).floats("w", &[8, 3, 1, 1], &ramp(24));
        transposed(model.named("conv", "Conv", &["x", "w"], "c", &[]), "c", "t", TO_LAST)
    };
    for (op, attributes) in [("Add", vec![]), ("Mul", vec![]), ("Concat", vec![int("axis", 1)])] {
        let backbone = load(base().node(op, &["c", "t"], "y", &attributes).output("y"));
        let ops: Vec<&Op> = backbone.graph().nodes.iter().map(|node| &node.op).collect();
        let step = ops.iter().find_map(|op| match op {
            Op::Opaque(step) => Some(step.operators().collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(step, Some(vec!["Transpose", op]), "{ops:?}");
    }
}
