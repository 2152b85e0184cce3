//! Parts of a network that no operation of the graph expresses are kept as the file's nodes, between values of the
//! graph.

use clr_onnx::{Backbone, Op, Opaque, Shape};
use prost::Message as _;

use crate::support::{Model, float, int, ints, ramp};

/// Adds attention over the pixels of `c`, softmax(cᵀ c) applied to c, and then a convolution.
fn attention(model: Model) -> Model {
    model
        .integers("flat", &[3], &[0, 2, -1])
        .integers("map", &[4], &[0, 2, 8, 8])
        .node("Reshape", &["c", "flat"], "v", &[])
        .node("Transpose", &["v"], "t", &[ints("perm", &[0, 2, 1])])
        .node("MatMul", &["t", "v"], "scores", &[])
        .node("Softmax", &["scores"], "shares", &[int("axis", -1)])
        .node("MatMul", &["v", "shares"], "mixed", &[])
        .node("Reshape", &["mixed", "map"], "m", &[])
        .node("Add", &["m", "c"], "residual", &[])
        .floats("k", &[4, 2, 1, 1], &ramp(8))
        .named("last", "Conv", &["residual", "k"], "y", &[])
        .output("y")
}

fn load(model: Model) -> Backbone {
    model.load().unwrap_or_else(|error| panic!("{error}"))
}

fn steps(backbone: &Backbone) -> Vec<&Opaque> {
    let steps = backbone.graph().nodes.iter().filter_map(|node| match &node.op {
        Op::Opaque(step) => Some(&**step),
        _ => None,
    });
    steps.collect()
}

#[test]
fn attention_is_one_step_between_sites() {
    let backbone = load(attention(Model::new(17).conv()));
    let sites: Vec<&str> = backbone.sites().iter().map(|site| site.name.as_str()).collect();
    assert_eq!(sites, ["conv", "last"]);
    let steps = steps(&backbone);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].inputs(), [Shape::Map([2, 8, 8])]);
    assert_eq!(steps[0].output(), Shape::Map([2, 8, 8]));
    let operators: Vec<&str> = steps[0].operators().collect();
    assert_eq!(operators.iter().filter(|&&operator| operator == "MatMul").count(), 2);
    // Nodes that combine the step's result with values of the graph are operations of the graph.
    assert!(backbone.graph().nodes.iter().any(|node| node.op == Op::Add));
    assert!(
        backbone.notes().iter().any(|note| note.contains("MatMul")),
        "{:?}",
        backbone.notes()
    );
}

#[test]
fn a_step_survives_writing_and_reading() {
    for model in [Model::new(17).conv(), Model::new(13).conv(), Model::new(20).conv()] {
        let written = load(attention(model));
        let bytes = written.to_bytes();
        let read = Backbone::from_bytes(&bytes, "memory").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, written);
        assert_eq!(read.digest(), written.digest());
        assert_eq!(read.to_bytes(), bytes);
    }
}

#[test]
fn a_model_of_a_step_has_its_inputs_and_output() {
    let backbone = load(attention(Model::new(17).conv()));
    let model = clr_onnx::proto::ModelProto::decode(&steps(&backbone)[0].model()[..]).unwrap();
    let graph = model.graph.unwrap();
    assert_eq!(graph.input[0].name.as_deref(), Some("x0"));
    assert_eq!(graph.output[0].name.as_deref(), Some(Opaque::OUTPUT));
    let produced: Vec<&str> = graph
        .node
        .iter()
        .flat_map(|node| &node.output)
        .map(String::as_str)
        .collect();
    let known = |name: &str| {
        name == "x0"
            || produced.contains(&name)
            || graph.initializer.iter().any(|own| own.name.as_deref() == Some(name))
    };
    assert!(
        graph.node.iter().flat_map(|node| &node.input).all(|name| known(name)),
        "{:?}",
        graph.node
    );
    assert!(produced.contains(&Opaque::OUTPUT));
}

#[test]
fn a_file_for_one_image_gives_a_backbone_for_one_image() {
    let mut model = Model::new(17);
    model.image_type().shape.as_mut().unwrap().dim[0].dim_value = Some(1);
    model.image_type().shape.as_mut().unwrap().dim[0].dim_param = None;
    let backbone = load(attention(model.conv()));
    assert!(steps(&backbone)[0].is_single());
    let bytes = backbone.to_bytes();
    let written = clr_onnx::proto::ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
    let shape = written.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(shape.shape.as_ref().unwrap().dim[0].dim_value, Some(1));
    assert_eq!(Backbone::from_bytes(&bytes, "memory").unwrap(), backbone);
}

#[test]
fn files_without_a_possible_opaque_step_give_a_hint() {
    let mut model = Model::new(17);
    model.image_type().shape.as_mut().unwrap().dim[0].dim_value = Some(4);
    model.image_type().shape.as_mut().unwrap().dim[0].dim_param = None;
    let text = attention(model.conv()).error();
    assert!(text.contains("hint: export the model with a batch of 1"), "{text}");
    let text = attention(Model::new(12).conv()).error();
    assert!(text.contains("hint: export the model again with opset 17"), "{text}");
}

#[test]
fn an_invalid_node_cannot_be_part_of_a_step() {
    let text = Model::new(17)
        .conv()
        .node("LeakyRelu", &["c"], "y", &[float("beta", 1.0)])
        .output("y")
        .error();
    assert!(text.contains("attribute `beta`"), "{text}");
    let text = Model::new(17)
        .conv()
        .node("NonZero", &["c"], "n", &[])
        .output("n")
        .error();
    assert!(text.contains("NonZero (opset 17): unknown operator"), "{text}");
}

#[test]
fn tokens_return_to_the_graph_with_their_channels_last() {
    // A prepended token cannot be expressed in the graph. The norm and the dense layer after it are operations of the
    // graph.
    let model = Model::new(17)
        .conv()
        .integers("flat", &[3], &[0, 2, -1])
        .floats("token", &[1, 1, 2], &[1.0, 2.0])
        .floats("s", &[2], &[1.0, 1.0])
        .floats("k", &[2, 4], &ramp(8))
        .integers("first", &[], &[0])
        .integers("like", &[3], &[1, 1, 2])
        .node("Reshape", &["c", "flat"], "v", &[])
        .node("Transpose", &["v"], "tokens", &[ints("perm", &[0, 2, 1])])
        .node("ReduceMax", &["tokens"], "max", &[ints("axes", &[1])])
        .node("Add", &["max", "token"], "class", &[])
        .node("Concat", &["class", "tokens"], "all", &[int("axis", 1)])
        .node("LayerNormalization", &["all", "s"], "n", &[])
        .node("MatMul", &["n", "k"], "d", &[])
        .node("Gather", &["d", "first"], "y", &[int("axis", 1)])
        .output("y");
    let backbone = load(model);
    let ops: Vec<&Op> = backbone.graph().nodes.iter().map(|node| &node.op).collect();
    assert!(ops.iter().any(|op| matches!(op, Op::LayerNorm { .. })), "{ops:?}");
    assert_eq!(backbone.sites().len(), 2, "{ops:?}");
    let read = Backbone::from_bytes(&backbone.to_bytes(), "memory").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, backbone);
}
