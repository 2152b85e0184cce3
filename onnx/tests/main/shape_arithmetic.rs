//! Arithmetic on fixed sizes becomes constant, within bounds that depend on the file's size.

use clr_onnx::{Op, proto::AttributeProto};

use crate::support::{Model, int, ints, ramp, string, tensor};

fn pad(model: Model) -> [usize; 4] {
    let ops = model.output("y").ops();
    let pads = ops.iter().find_map(|op| {
        if let Op::Pad { pads, .. } = op {
            Some(*pads)
        } else {
            None
        }
    });
    pads.unwrap_or_else(|| panic!("no Pad in {ops:?}"))
}

fn value(tensor: clr_onnx::proto::TensorProto) -> AttributeProto {
    AttributeProto {
        i: None,
        t: Some(tensor),
        ..int("value", 0)
    }
}

#[test]
fn padding_that_is_computed_from_the_size_is_constant() {
    // `max((ceil(h / s) − 1) · s + k − h, 0)`, as timm traces SAME padding for stride 2 and a window of 3. h = 8 gives
    // 1.
    let model = Model::new(17)
        .conv()
        .node("Shape", &["c"], "s", &[])
        .integers("two", &[], &[2])
        .integers("one", &[], &[1])
        .integers("three", &[], &[3])
        .integers("none", &[], &[0])
        .node("Gather", &["s", "two"], "h", &[])
        .node("Cast", &["h"], "hf", &[int("to", 1)])
        .floats("stride", &[], &[2.0])
        .node("Div", &["hf", "stride"], "q", &[])
        .node("Ceil", &["q"], "up", &[])
        .node("Cast", &["up"], "out", &[int("to", 7)])
        .node("Sub", &["out", "one"], "out1", &[])
        .node("Mul", &["out1", "two"], "reach", &[])
        .node("Add", &["reach", "three"], "need", &[])
        .node("Sub", &["need", "h"], "lack", &[])
        .node("Max", &["lack", "none"], "total", &[])
        .node("Div", &["total", "two"], "before", &[])
        .node("Sub", &["total", "before"], "after", &[])
        .integers("front", &[1], &[0])
        .node("Unsqueeze", &["before", "front"], "b", &[])
        .node("Unsqueeze", &["after", "front"], "a", &[])
        // PyTorch counts pads from the last axis. Its exporter appends zeros, groups them in pairs and reverses them.
        .node("Concat", &["b", "a", "b", "a"], "short", &[int("axis", 0)])
        .integers("four", &[1], &[4])
        .node(
            "ConstantOfShape",
            &["four"],
            "zeros",
            &[value(clr_onnx::proto::TensorProto {
                dims: vec![1],
                data_type: Some(7),
                int64_data: vec![0],
                ..Default::default()
            })],
        )
        .node("Concat", &["short", "zeros"], "long", &[int("axis", 0)])
        .integers("pairs", &[2], &[-1, 2])
        .node("Reshape", &["long", "pairs"], "p", &[])
        .integers("start", &[1], &[-1])
        .integers("end", &[1], &[i64::MIN])
        .integers("step", &[1], &[-1])
        .node("Slice", &["p", "start", "end", "front", "step"], "r", &[])
        .node("Transpose", &["r"], "t", &[ints("perm", &[1, 0])])
        .integers("flat", &[1], &[-1])
        .node("Reshape", &["t", "flat"], "pads", &[])
        .node("Pad", &["c", "pads"], "y", &[string("mode", "constant")]);
    assert_eq!(pad(model), [0, 0, 1, 1]);
}

#[test]
fn sizes_computed_by_where_equal_and_expand_are_constant() {
    // The nodes that PyTorch writes for `expand(-1, …)`, where −1 means the existing size.
    let model = Model::new(17)
        .conv()
        .integers("asked", &[2], &[-1, 1])
        .integers("minus", &[], &[-1])
        .integers("ones", &[2], &[8, 1])
        .node("Equal", &["asked", "minus"], "open", &[])
        .node("Where", &["open", "ones", "asked"], "shape", &[])
        .integers("zero", &[1, 1], &[0])
        .node("Expand", &["zero", "shape"], "zeros", &[])
        .integers("flat", &[1], &[-1])
        .node("Reshape", &["zeros", "flat"], "pads", &[])
        .node("Pad", &["c", "pads"], "y", &[]);
    assert_eq!(pad(model), [0; 4]);
    let range = Model::new(17)
        .conv()
        .integers("from", &[], &[7])
        .integers("to", &[], &[-1])
        .integers("by", &[], &[-1])
        .node("Range", &["from", "to", "by"], "all", &[])
        .integers("four", &[], &[4])
        .node("Div", &["all", "four"], "ones", &[])
        .integers("places", &[8], &[7, 7, 0, 0, 7, 7, 1, 7])
        .node("Gather", &["ones", "places"], "pads", &[])
        .node("Pad", &["c", "pads"], "y", &[]);
    assert_eq!(pad(range), [1, 1, 1, 0]);
}

#[test]
fn padding_up_to_a_multiple_is_constant() {
    // The padding that windows of seven need on eight pixels: (7 − 8 mod 7) mod 7, which equals −8 mod 7.
    let model = Model::new(17)
        .conv()
        .node("Shape", &["c"], "s", &[])
        .integers("two", &[1], &[2])
        .integers("seven", &[1], &[7])
        .node("Gather", &["s", "two"], "h", &[])
        .node("Mod", &["h", "seven"], "rest", &[])
        .node("Sub", &["seven", "rest"], "more", &[])
        .node("Mod", &["more", "seven"], "bottom", &[])
        .node("Neg", &["h"], "minus", &[])
        .node("Mod", &["minus", "seven"], "right", &[])
        .integers("front", &[6], &[0; 6])
        .node("Concat", &["front", "bottom", "right"], "pads", &[int("axis", 0)])
        .node("Pad", &["c", "pads"], "y", &[]);
    assert_eq!(pad(model), [0, 0, 6, 6]);
}

#[test]
fn arithmetic_that_depends_on_the_batch_is_refused() {
    let model = Model::new(17)
        .conv()
        .node("Shape", &["c"], "s", &[])
        .integers("zero", &[], &[0])
        .node("Gather", &["s", "zero"], "n", &[])
        .integers("two", &[], &[2])
        .node("Mul", &["n", "two"], "m", &[])
        .node("Reshape", &["c", "m"], "y", &[])
        .output("y");
    let text = model.error();
    assert!(text.contains("[2·N]"), "{text}");
}

/// Returns the error for a model whose convolution reads the weights `w` that `how` computes.
fn refused(how: impl FnOnce(Model) -> Model) -> String {
    how(Model::new(17))
        .named("conv", "Conv", &["x", "w"], "y", &[])
        .output("y")
        .error()
}

#[test]
fn a_small_file_cannot_ask_for_large_constants() {
    let text = refused(|model| {
        model.integers("s", &[4], &[1 << 20, 3, 1 << 8, 1]).node(
            "ConstantOfShape",
            &["s"],
            "w",
            &[value(tensor("", &[1], &[1.0]))],
        )
    });
    assert!(text.contains("more values than the file accounts for"), "{text}");
    let text = refused(|model| {
        model
            .floats("one", &[1, 1, 1, 1], &[1.0])
            .integers("s", &[4], &[1 << 40, 1 << 40, 1, 1])
            .node("Expand", &["one", "s"], "w", &[])
    });
    assert!(text.contains("node `w`"), "{text}");
    // Two vectors broadcast to a matrix, so many vectors could give many matrices.
    let text = refused(|model| {
        let model = model
            .floats("a", &[1024, 1], &ramp(1024))
            .floats("b", &[1, 1024], &ramp(1024));
        (0..64)
            .fold(model, |model, index| {
                model.node("Mul", &["a", "b"], &format!("m{index}"), &[])
            })
            .node(
                "Concat",
                &(0..64)
                    .map(|index| format!("m{index}"))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
                "w",
                &[int("axis", 0)],
            )
    });
    assert!(text.contains("more values than the file accounts for"), "{text}");
}

#[test]
fn repeated_concatenation_of_integers_is_bounded() {
    let text = refused(|model| {
        let model = model.integers("l0", &[2], &[1, 1]);
        (0..40)
            .fold(model, |model, index| {
                let (from, to) = (format!("l{index}"), format!("l{}", index + 1));
                model.node("Concat", &[&from, &from], &to, &[int("axis", 0)])
            })
            .node("Reshape", &["x", "l40"], "w", &[])
    });
    assert!(text.contains("expected at most"), "{text}");
}
