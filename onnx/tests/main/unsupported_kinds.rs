//! Files of unsupported kinds are reported by their kind in one line, and refused nodes are grouped.

use clr_onnx::OnnxError;

use crate::support::{Model, info, int, ramp};

/// Returns a model with a chain of `operators`, each given with its domain.
fn row(operators: &[(&str, &str)]) -> Model {
    let mut model = Model::new(13).conv();
    let mut last = "c".to_owned();
    for (index, (domain, operator)) in operators.iter().enumerate() {
        let output = format!("v{index}");
        model = model.node(operator, &[&last], &output, &[]);
        let node = model.graph.node.last_mut().unwrap();
        node.domain = Some((*domain).to_owned());
        last = output;
    }
    model.output(&last)
}

#[test]
fn quantised_files_are_reported_in_one_line_with_a_hint() {
    let kinds: [&[(&str, &str)]; 7] = [
        &[("", "QLinearLeakyRelu")],
        &[("", "DynamicQuantizeLinear"), ("", "ConvInteger")],
        &[("", "MatMulInteger")],
        &[("com.microsoft", "MatMulNBits")],
        &[("com.microsoft", "QAttention")],
        &[("onnx.brevitas", "Quant")],
        &[("org.openvinotoolkit", "FakeQuantize")],
    ];
    for kind in kinds {
        let model = row(kind);
        let Err(error @ OnnxError::Quantised { .. }) = model.load() else {
            panic!("{kind:?}")
        };
        let text = error.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("the model is quantised in a form") && text.contains("give the float model"),
            "{text}"
        );
        assert!(text.contains(&format!("{} ×1", kind[0].1)), "{text}");
    }
}

#[test]
fn a_quantised_file_with_byte_input_is_reported_as_quantised() {
    let mut model = row(&[("", "ConvInteger")]);
    model.graph.input[0] = info("x", &[None, Some(3), Some(8), Some(8)]);
    model.image_type().elem_type = Some(2);
    assert!(matches!(model.load(), Err(OnnxError::Quantised { .. })));
}

#[test]
fn files_optimised_by_onnx_runtime_are_reported_as_such() {
    let kinds: [&[(&str, &str)]; 3] = [
        &[("com.microsoft", "FusedConv"), ("com.microsoft", "FusedConv")],
        &[("com.microsoft.nchwc", "ReorderInput"), ("com.microsoft.nchwc", "Conv")],
        &[("com.microsoft", "NhwcConv")],
    ];
    for kind in kinds {
        let Err(error @ OnnxError::Optimised { .. }) = row(kind).load() else {
            panic!("{kind:?}")
        };
        let text = error.to_string();
        assert!(
            text.contains("optimised by ONNX Runtime") && text.contains("hint: give the file as the exporter"),
            "{text}"
        );
    }
    let text = row(kinds[0]).error();
    assert!(text.contains("com.microsoft.FusedConv ×2"), "{text}");
}

#[test]
fn unknown_operators_are_one_line_each_with_their_number_and_the_first_node() {
    let text = row(&[("", "NonZero"), ("", "NonZero"), ("", "Det"), ("", "NonZero")]).error();
    // Nodes that read outputs of refused nodes are counted, and not listed twice. Here, all four are unknown.
    assert!(text.contains("4 node(s) not supported"), "{text}");
    assert!(
        text.contains("\n  3 nodes, the first is `v0`: NonZero (opset 13): unknown operator"),
        "{text}"
    );
    assert!(
        text.contains("\n  node `v2`: Det (opset 13): unknown operator"),
        "{text}"
    );
    assert_eq!(text.matches("NonZero").count(), 1, "{text}");
}

#[test]
fn the_value_before_the_end_is_not_suggested_where_convolutions_follow() {
    let text = row(&[("", "Det")])
        .floats("k", &[2, 2, 1, 1], &ramp(4))
        .node("Conv", &["v0", "k"], "later", &[])
        .output("later");
    let mut model = text;
    model.graph.output.remove(0);
    let text = model.error();
    assert!(text.contains("docs/guide/adding-an-operator.md"), "{text}");
    assert!(!text.contains("--output-name"), "{text}");
}

#[test]
fn an_attribute_that_is_refused_names_the_node_once() {
    let model = Model::new(13)
        .conv()
        .node("LeakyRelu", &["c"], "y", &[int("beta", 1)])
        .output("y");
    assert!(
        model
            .error()
            .contains("node `y`: LeakyRelu (opset 13): attribute `beta`")
    );
}
