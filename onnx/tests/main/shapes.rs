//! Shape inference agrees with ONNX in all edge cases.

use clr_onnx::{Conv, Graph, Node, Op, Padding, Pool, Shape, Tensor, ValueId};

use crate::support::{Model, backbone, ints, preprocessing, ramp, string};

/// Returns the rows and columns that a window operation gives on `size`. The backbone averages them at its end.
fn output(op: Op, size: [usize; 2]) -> [usize; 2] {
    let node = |name: &str, op: Op, input: usize| Node {
        name: name.into(),
        op,
        inputs: vec![ValueId(input)],
    };
    let nodes = vec![
        node("window", op, 0),
        node("pool", Op::GlobalAveragePool, 1),
        node("flatten", Op::Flatten, 2),
    ];
    let backbone = backbone(
        Graph {
            input_channels: 3,
            nodes,
            features: ValueId(3),
        },
        None,
    );
    backbone.value_shapes(size[0], size[1]).unwrap()[1].spatial().unwrap()
}

fn conv(kernel: usize, stride: usize, dilation: usize, padding: Padding) -> Op {
    let weight = Tensor::new([1, 3, kernel, kernel], ramp(3 * kernel * kernel));
    Op::Conv(Conv {
        weight: weight.into(),
        bias: None,
        stride: [stride; 2],
        dilation: [dilation; 2],
        group: 1,
        padding,
    })
}

fn pool(kernel: usize, stride: usize, pad: usize, ceil: bool) -> Op {
    let padding = Padding::Explicit([pad; 4]);
    Op::MaxPool(Pool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding,
        ceil,
        count_include_pad: false,
    })
}

#[test]
fn output_sizes_of_convolutions_agree_with_onnx() {
    let none = Padding::Explicit([0; 4]);
    assert_eq!(output(conv(3, 1, 1, none), [8, 9]), [6, 7]);
    assert_eq!(output(conv(3, 2, 1, Padding::Explicit([1; 4])), [8, 9]), [4, 5]);
    assert_eq!(output(conv(3, 1, 2, none), [8, 9]), [4, 5]);
    assert_eq!(output(conv(3, 2, 1, Padding::Explicit([0, 1, 1, 2])), [8, 8]), [4, 5]);
}

#[test]
fn same_padding_divides_by_the_stride_and_puts_the_odd_pixel_where_it_says() {
    for padding in [Padding::SameUpper, Padding::SameLower] {
        for (size, stride) in [(8, 1), (8, 2), (9, 2), (10, 3), (224, 2)] {
            for kernel in [1, 3, 5] {
                assert_eq!(
                    output(conv(kernel, stride, 1, padding), [size; 2]),
                    [size.div_ceil(stride); 2],
                    "{size} {stride} {kernel}"
                );
            }
        }
    }
    assert_eq!(Padding::SameUpper.resolve([8, 9], [3, 3], [2, 2], [1, 1]), [0, 1, 1, 1]);
    assert_eq!(Padding::SameLower.resolve([8, 9], [3, 3], [2, 2], [1, 1]), [1, 1, 0, 1]);
    assert_eq!(Padding::SameUpper.resolve([8, 8], [3, 3], [1, 1], [2, 2]), [2, 2, 2, 2]);
}

#[test]
fn ceil_mode_counts_a_partial_window_unless_it_starts_in_the_padding() {
    assert_eq!(output(pool(3, 2, 0, false), [8, 9]), [3, 4]);
    assert_eq!(output(pool(3, 2, 0, true), [8, 9]), [4, 4]);
    // The third window would start right after the last pixel, in the padding, so it is not included.
    assert_eq!(output(pool(2, 3, 1, true), [5, 5]), [2, 2]);
}

#[test]
fn every_value_has_its_shape() {
    let model = Model::new(13)
        .floats("w0", &[4, 3, 3, 3], &ramp(108))
        .node(
            "Conv",
            &["x", "w0"],
            "c",
            &[ints("strides", &[2, 2]), string("auto_pad", "SAME_UPPER")],
        )
        .node("GlobalAveragePool", &["c"], "g", &[])
        .node("Mul", &["g", "c"], "m", &[])
        .node("Concat", &["c", "m"], "k", &[])
        .node("Flatten", &["k"], "y", &[])
        .output("y");
    let backbone = model.load().unwrap();
    let expected = [[3, 8, 8], [4, 4, 4], [4, 1, 1], [4, 4, 4], [8, 4, 4]].map(Shape::Map);
    let shapes = backbone.value_shapes(8, 8).unwrap();
    assert_eq!(shapes[..5], expected);
    assert_eq!(shapes[5], Shape::Vector(128));
    // The number of features depends on the size, so another size is refused.
    let error = backbone.with_preprocessing(preprocessing(16)).unwrap_err().to_string();
    assert!(error.contains("expected features [N, 128], got [N, 512]"), "{error}");
}

#[test]
fn a_stage_begins_where_feature_maps_become_smaller() {
    let backbone = clr_onnx::seeded_backbone(clr_onnx::Architecture::MobileNetV2, 1, 10);
    let stages = backbone.stages([96, 64]).unwrap();
    let sizes: Vec<[usize; 2]> = stages.iter().map(|stage| stage.size).collect();
    assert_eq!(sizes, [[48, 32], [24, 16], [12, 8], [6, 4], [3, 2]]);
    assert_eq!(stages[0].first_site, 0);
    assert!(stages.windows(2).all(|pair| pair[0].first_site < pair[1].first_site));
}
