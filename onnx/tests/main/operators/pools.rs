//! Pools, means and padding.

use clr_onnx::{Op, PadMode, Padding, Pool};

use super::after_conv;
use crate::support::{Model, float, int, ints, string};

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
        after_conv(Model::new(13).conv().node("MaxPool", &["c"], "y", &attributes)),
        [Op::MaxPool(pool)]
    );
    let mut attributes = attributes.to_vec();
    attributes.push(int("count_include_pad", 1));
    let pool = Pool {
        count_include_pad: true,
        ..pool
    };
    assert_eq!(
        after_conv(Model::new(13).conv().node("AveragePool", &["c"], "y", &attributes)),
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
    assert_eq!(after_conv(whole), expected);
    let axes = conv()
        .integers("p", &[4], &[2, 1, 4, 3])
        .integers("a", &[2], &[3, -2])
        .node("Pad", &["c", "p", "v", "a"], "y", &[]);
    assert_eq!(after_conv(axes), expected);
    let attribute = conv().node(
        "Pad",
        &["c"],
        "y",
        &[ints("pads", &[0, 0, 1, 2, 0, 0, 3, 4]), float("value", 0.5)],
    );
    assert_eq!(after_conv(attribute), expected);
}
