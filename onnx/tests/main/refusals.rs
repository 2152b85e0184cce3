//! Refusals: the error states the reason and a remedy.

use clr_onnx::{Backbone, OnnxError};

use crate::support::{Model, info, int, ramp, string};

#[test]
fn the_list_of_refused_nodes_is_complete() {
    let model = Model::new(13)
        .conv()
        .node("Resize", &["c"], "r", &[])
        .node("Relu", &["r"], "a", &[])
        .node("LayerNormalization", &["a"], "l", &[])
        .node("Conv", &["c", "w"], "k", &[string("auto_pad", "DIAGONAL")])
        .node("Einsum", &["l", "k"], "y", &[])
        .node("NotNeeded", &["c"], "z", &[])
        .output("y");
    let Err(OnnxError::Unsupported { missing, unchecked, .. }) = model.load() else {
        panic!("expected a refusal")
    };
    let listed: Vec<_> = missing
        .iter()
        .map(|item| (item.node.as_str(), item.operator.as_str(), item.opset))
        .collect();
    assert_eq!(listed, [("r", "Resize", 13), ("k", "Conv", 13)]);
    // Three nodes read outputs of the refused nodes.
    assert_eq!(unchecked, 3);
}

#[test]
fn a_refusal_names_node_operator_opset_and_reason() {
    let text = Model::new(13)
        .conv()
        .node("NonZero", &["c"], "y", &[])
        .output("y")
        .error();
    assert_eq!(
        text,
        "folder/small.onnx: 1 node(s) not supported:\n  node `y`: NonZero (opset 13): unknown operator\nhint: everything before \
         them is read: name the value `c` [N, 2, 8, 8] with --output-name to make it the logits or features"
    );
}

#[test]
fn operators_of_other_domains_are_refused_with_their_domain() {
    let mut model = Model::new(13).conv().node("Relu", &["c"], "y", &[]).output("y");
    model.graph.node[1].domain = Some("com.example".into());
    assert!(model.error().contains("com.example.Relu"));
}

#[test]
fn an_unknown_attribute_is_refused() {
    let text = Model::new(13)
        .conv()
        .node("LeakyRelu", &["c"], "y", &[int("beta", 1)])
        .output("y")
        .error();
    assert!(text.contains("attribute `beta`"), "{text}");
}

#[test]
fn operations_with_another_meaning_are_refused() {
    let cases = [
        Model::new(13).conv().node("Flatten", &["c"], "y", &[int("axis", 2)]),
        Model::new(13)
            .conv()
            .integers("t", &[5], &[0, 2, 4, 2, 8])
            .node("Reshape", &["c", "t"], "y", &[]),
        Model::new(13)
            .conv()
            .floats("k", &[2, 2, 20, 20], &ramp(1600))
            .node("Conv", &["c", "k"], "y", &[]),
        Model::new(13).conv().node("Conv", &["x", "c"], "y", &[]),
        Model::new(13)
            .conv()
            .floats("k", &[3], &ramp(3))
            .node("Mul", &["c", "k"], "y", &[]),
    ];
    for model in cases {
        let op = model.graph.node[1].op_type.clone().unwrap_or_default();
        let error = model.output("y").load().expect_err(&op);
        let refused = matches!(error, OnnxError::Unsupported { .. } | OnnxError::Output { .. });
        assert!(refused, "{op}: {error}");
    }
}

#[test]
fn opsets_outside_7_to_28_are_refused() {
    for opset in [1, 6, 29] {
        let text = Model::new(opset).conv().output("c").error();
        assert!(text.contains(&format!("expected opset 7 to 28, got {opset}")), "{text}");
        // A converter supports older opsets, but no newer ones.
        assert_eq!(text.contains("s.infer_shapes(m), 17)"), opset < 7, "{text}");
    }
    assert!((7..=28).all(|opset| Model::new(opset).conv().output("c").load().is_ok()));
}

#[test]
fn a_cycle_is_reported() {
    let text = Model::new(13)
        .node("Add", &["x", "b"], "a", &[])
        .node("Relu", &["a"], "b", &[])
        .output("b")
        .error();
    assert!(text.contains("cycle through `a`, `b`"), "{text}");
}

#[test]
fn nodes_in_any_order_are_sorted() {
    let sorted = Model::new(13).conv().node("Relu", &["c"], "y", &[]).output("y");
    let mut shuffled = Model {
        graph: sorted.graph.clone(),
        opset: 13,
    };
    shuffled.graph.node.reverse();
    assert_eq!(shuffled.load().unwrap(), sorted.load().unwrap());
}

#[test]
fn missing_and_duplicate_values_are_reported() {
    let text = Model::new(13).node("Relu", &["nowhere"], "y", &[]).output("y").error();
    assert!(text.contains("node `y` reads `nowhere`"), "{text}");
    let text = Model::new(13).conv().node("Relu", &["x"], "c", &[]).output("c").error();
    assert!(text.contains("value `c` is defined twice"), "{text}");
    let text = Model::new(13).conv().floats("w", &[1], &[1.0]).output("c").error();
    assert!(text.contains("initialiser `w` is defined twice"), "{text}");
    let text = Model::new(13).conv().output("nothing").error();
    assert!(text.contains("nothing produces `nothing`"), "{text}");
}

#[test]
fn inputs_and_outputs_must_be_one_image_and_one_tensor() {
    let inputs: [(&[Option<i64>], &str); 6] = [
        (&[None, Some(3), None, None], "height or width is dynamic"),
        (&[None, Some(3), Some(0), Some(8)], "height or width is dynamic"),
        (
            &[None, Some(8), Some(8), Some(3)],
            "in a layout that the input `x` brings about",
        ),
        (&[None, Some(2), Some(8), Some(8)], "expected 3 channels, or 1"),
        (&[None, Some(3)], "expected [N, 3, H, W], got [batch, 3]"),
        (&[None, Some(3), Some(1 << 20), Some(8)], "expected sides of 1"),
    ];
    for (dims, expected) in inputs {
        let mut model = Model::bare(13);
        model.graph.input.push(info("x", dims));
        let text = model.conv().output("c").error();
        assert!(text.contains(expected), "{text}");
    }
    let mut model = Model::new(13).conv().output("c");
    model.graph.input.push(info("mask", &[None]));
    let text = model.error();
    assert!(text.contains("input: expected 1, got 2: `x`, `mask`"), "{text}");
}

#[test]
fn an_initialiser_may_be_an_input_too() {
    let mut model = Model::new(13).conv().output("c");
    model.graph.input.push(info("w", &[Some(2), Some(3), Some(1), Some(1)]));
    assert!(model.load().is_ok());
}

#[test]
fn tensors_that_do_not_fill_their_shape_are_reported() {
    let mut model = Model::new(13).conv().output("c");
    model.graph.initializer[0].float_data.pop();
    assert!(
        model
            .error()
            .contains("tensor `w`: shape [2, 3, 1, 1] expects 6 values, got 5")
    );
    let mut model = Model::new(13).conv().output("c");
    model.graph.initializer[0].dims = vec![i64::MAX, i64::MAX];
    assert!(model.error().contains("tensor `w`: at most"));
    let mut model = Model::new(13).conv().output("c");
    model.graph.initializer[0].float_data[1] = f32::NAN;
    assert!(model.error().contains("weight: value 1 is not finite"));
}

#[test]
fn other_files_are_not_models() {
    for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", &[0xff; 64]] {
        assert!(Backbone::from_bytes(bytes, "image.png").is_err());
    }
    let error = Backbone::load(std::path::Path::new("does/not/exist.onnx")).unwrap_err();
    assert!(matches!(error, OnnxError::Io { .. }) && error.to_string().contains("does/not/exist.onnx"));
}
