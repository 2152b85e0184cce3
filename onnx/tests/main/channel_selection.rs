//! Split, Slice, Gather, shuffles, stacks and softmax over groups of channels become operations on channels.

use clr_onnx::{Op, Padding, Pool};

use crate::support::{Model, int, ints, ramp};

/// Returns a model with a 1×1 convolution from 3 to 4 channels, whose output is `c`.
fn four(opset: i64) -> Model {
    Model::new(opset)
        .floats("w", &[4, 3, 1, 1], &ramp(12))
        .named("conv", "Conv", &["x", "w"], "c", &[])
}

fn gather(index: &[u32]) -> Op {
    Op::GatherChannels { index: index.into() }
}

/// Returns the operations after the convolution, without the final pool and flattening.
fn after(model: Model, output: &str) -> Vec<Op> {
    let mut ops = model.output(output).ops();
    assert_eq!(ops.split_off(ops.len() - 2), [Op::GlobalAveragePool, Op::Flatten]);
    ops.split_off(1)
}

#[test]
fn slices_and_gathers_of_channels_are_one_operation() {
    let cases = [
        four(13)
            .integers("s", &[1], &[1])
            .integers("e", &[1], &[3])
            .integers("a", &[1], &[1])
            .node("Slice", &["c", "s", "e", "a"], "y", &[]),
        four(9).node(
            "Slice",
            &["c"],
            "y",
            &[ints("starts", &[1]), ints("ends", &[-1]), ints("axes", &[-3])],
        ),
        four(13)
            .integers("i", &[2], &[1, -2])
            .node("Gather", &["c", "i"], "y", &[int("axis", 1)]),
    ];
    for model in cases {
        assert_eq!(after(model, "y"), [gather(&[1, 2])]);
    }
    let backwards = four(13)
        .integers("s", &[1], &[-1])
        .integers("e", &[1], &[i64::MIN])
        .integers("a", &[1], &[1])
        .integers("t", &[1], &[-2])
        .node("Slice", &["c", "s", "e", "a", "t"], "y", &[]);
    assert_eq!(after(backwards, "y"), [gather(&[3, 1])]);
}

#[test]
fn the_outputs_of_a_split_are_gathers_and_unread_ones_are_dropped() {
    let split = |opset: i64, attributes: &[_], inputs: &[&str]| {
        let mut model = four(opset).integers("sizes", &[2], &[1, 3]);
        model = model.node("Split", inputs, "a", attributes);
        model.graph.node.last_mut().unwrap().output.push("b".into());
        model
    };
    let models = [
        split(11, &[int("axis", 1), ints("split", &[1, 3])], &["c"]),
        split(13, &[int("axis", -3)], &["c", "sizes"]),
    ];
    for model in models {
        assert_eq!(after(model.node("Relu", &["b"], "y", &[]), "y")[0], gather(&[1, 2, 3]));
    }
    let equal = split(18, &[int("axis", 1), int("num_outputs", 2)], &["c"]);
    assert_eq!(
        after(equal.node("Mul", &["a", "b"], "y", &[]), "y"),
        [gather(&[0, 1]), gather(&[2, 3]), Op::Mul]
    );
}

#[test]
fn a_channel_shuffle_is_one_gather() {
    let shuffled = four(13)
        .integers("groups", &[5], &[0, 2, 2, 8, 8])
        .integers("map", &[4], &[0, -1, 8, 8])
        .node("Reshape", &["c", "groups"], "g", &[])
        .node("Transpose", &["g"], "t", &[ints("perm", &[0, 2, 1, 3, 4])])
        .node("Reshape", &["t", "map"], "y", &[]);
    assert_eq!(after(shuffled, "y"), [gather(&[0, 2, 1, 3])]);
    let undone = four(13)
        .integers("groups", &[5], &[0, 2, 2, 8, 8])
        .integers("map", &[4], &[0, 4, 8, 8])
        .node("Reshape", &["c", "groups"], "g", &[])
        .node("Reshape", &["g", "map"], "y", &[]);
    assert_eq!(after(undone, "y"), []);
}

#[test]
fn rows_and_columns_are_cut_by_one_crop() {
    let cut = four(13)
        .integers("s", &[2], &[1, 0])
        .integers("e", &[2], &[7, i64::MAX])
        .integers("a", &[2], &[2, 3])
        .integers("t", &[2], &[1, 2])
        .node("Slice", &["c", "s", "e", "a", "t"], "y", &[]);
    let expected = [Op::Crop {
        start: [1, 0],
        size: [6, 4],
        step: [1, 2],
    }];
    assert_eq!(after(cut, "y"), expected);
    let negative = four(13)
        .integers("p", &[8], &[0, 0, -1, 0, 0, 0, 0, -2])
        .node("Pad", &["c", "p"], "y", &[]);
    let expected = [Op::Crop {
        start: [1, 0],
        size: [7, 6],
        step: [1, 1],
    }];
    assert_eq!(after(negative, "y"), expected);
}

#[test]
fn branches_that_are_stacked_weighted_and_summed_stay_operations_on_channels() {
    // Selective kernels: two branches [N, 2, 4, 8, 8], a softmax over the branches, and the weighted sum.
    let model = four(13)
        .integers("one", &[1], &[1])
        .integers("both", &[2], &[2, 3])
        .integers("gate", &[5], &[0, 2, 4, 1, 1])
        .node("Relu", &["c"], "r", &[])
        .node("Unsqueeze", &["c", "one"], "left", &[])
        .node("Unsqueeze", &["r", "one"], "right", &[])
        .node("Concat", &["left", "right"], "stack", &[int("axis", 1)])
        .node("ReduceSum", &["stack", "one"], "sum", &[int("keepdims", 0)])
        .node("GlobalAveragePool", &["sum"], "mean", &[])
        .floats("k", &[8, 4, 1, 1], &ramp(32))
        .named("attention", "Conv", &["mean", "k"], "logits", &[])
        .node("Reshape", &["logits", "gate"], "split", &[])
        .node("Softmax", &["split"], "shares", &[int("axis", 1)])
        .node("Mul", &["stack", "shares"], "weighted", &[])
        .node("ReduceSum", &["weighted", "one"], "y", &[int("keepdims", 0)]);
    let ops = after(model, "y");
    assert!(ops.contains(&Op::Softmax { groups: 2 }), "{ops:?}");
    assert!(ops.contains(&gather(&[4, 5, 6, 7])), "{ops:?}");
    assert!(!ops.iter().any(|op| matches!(op, Op::Opaque(_))), "{ops:?}");
}

#[test]
fn a_softmax_over_a_later_part_of_the_channels_moves_it_to_the_front() {
    let model = four(13)
        .node("GlobalAveragePool", &["c"], "mean", &[])
        .integers("split", &[4], &[0, 2, 2, 1])
        .integers("back", &[4], &[0, 4, 1, 1])
        .node("Reshape", &["mean", "split"], "s", &[])
        .node("Softmax", &["s"], "m", &[int("axis", 2)])
        .node("Reshape", &["m", "back"], "g", &[])
        .node("Mul", &["c", "g"], "y", &[])
        .output("y");
    let ops = model.ops();
    assert_eq!(
        ops[2..5],
        [gather(&[0, 2, 1, 3]), Op::Softmax { groups: 2 }, gather(&[0, 2, 1, 3])]
    );
}

#[test]
fn a_convolution_along_the_channels_of_a_vector_is_one() {
    let model = four(13)
        .integers("spatial", &[2], &[2, 3])
        .integers("row", &[3], &[0, 1, -1])
        .integers("map", &[4], &[0, -1, 1, 1])
        .integers("whole", &[4], &[1, 4, 8, 8])
        .floats("k", &[1, 1, 3], &[1.0, 2.0, 3.0])
        .node("ReduceMean", &["c"], "v", &[ints("axes", &[2, 3]), int("keepdims", 0)])
        .node("Reshape", &["v", "row"], "r", &[])
        .node("Conv", &["r", "k"], "e", &[ints("pads", &[1, 1])])
        .node("Sigmoid", &["e"], "s", &[])
        .node("Reshape", &["s", "map"], "g", &[])
        .node("Expand", &["g", "whole"], "wide", &[])
        .node("Mul", &["c", "wide"], "y", &[]);
    let ops = after(model, "y");
    assert!(
        matches!(&ops[2], Op::ChannelConv { kernel, bias: 0.0, pads: [1, 1] } if kernel.data() == [1.0, 2.0, 3.0]),
        "{ops:?}"
    );
    // In a product, an expanded value is replaced by its single pixel.
    assert!(!ops.iter().any(|op| matches!(op, Op::Resize(_))), "{ops:?}");
}

#[test]
fn a_mean_over_rows_or_columns_alone_is_a_window_of_one_line() {
    let model = four(13).node("ReduceMean", &["c"], "y", &[ints("axes", &[3])]);
    let expected = Op::AveragePool(Pool {
        kernel: [1, 8],
        stride: [1, 1],
        padding: Padding::Explicit([0; 4]),
        ceil: false,
        count_include_pad: false,
    });
    assert_eq!(after(model, "y"), [expected]);
}
