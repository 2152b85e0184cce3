//! Local functions are inlined before the nodes are read.

use clr_onnx::{
    Activation, Backbone, Op,
    proto::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto},
};
use prost::Message as _;

use crate::support::{Model, float, ramp};

fn call(domain: &str, operator: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: Some(format!("{operator}_{}", outputs.join("_"))),
        op_type: Some(operator.into()),
        attribute,
        domain: Some(domain.into()),
    }
}

fn function(name: &str, input: &[&str], output: &[&str], node: Vec<NodeProto>) -> FunctionProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    FunctionProto {
        name: Some(name.into()),
        domain: Some("local".into()),
        input: owned(input),
        output: owned(output),
        node,
        ..FunctionProto::default()
    }
}

/// Returns the model `y = block(block(x))` with the local functions `functions`.
fn model(functions: Vec<FunctionProto>) -> ModelProto {
    let mut model = Model::new(13)
        .floats("w", &[4, 3, 1, 1], &ramp(12))
        .floats("v", &[8, 4, 1, 1], &ramp(32))
        .output("y");
    let slope = vec![float("slope", 0.25)];
    model
        .graph
        .node
        .push(call("local", "Block", &["x", "w"], &["a"], slope));
    model
        .graph
        .node
        .push(call("local", "Block", &["a", "v"], &["y"], Vec::new()));
    ModelProto {
        functions,
        ..model.proto()
    }
}

fn block() -> FunctionProto {
    let alpha = AttributeProto {
        ref_attr_name: Some("slope".into()),
        ..float("alpha", 0.0)
    };
    let mut block = function(
        "Block",
        &["in", "weight"],
        &["out"],
        vec![
            call("", "Conv", &["in", "weight"], &["c"], Vec::new()),
            call("local", "Act", &["c"], &["out"], vec![alpha]),
        ],
    );
    block.attribute_proto = vec![float("slope", 0.5)];
    block
}

fn act() -> FunctionProto {
    let alpha = AttributeProto {
        ref_attr_name: Some("alpha".into()),
        ..float("alpha", 0.0)
    };
    function(
        "Act",
        &["x"],
        &["y"],
        vec![call("", "LeakyRelu", &["x"], &["y"], vec![alpha])],
    )
}

fn load(model: &ModelProto) -> Result<Backbone, clr_onnx::OnnxError> {
    Backbone::from_bytes(&model.encode_to_vec(), "functions.onnx")
}

/// Returns a valid model with calls, in which the first weight is sparse.
pub(crate) fn with_a_sparse_constant() -> Vec<u8> {
    let mut model = model(vec![block(), act()]);
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.remove(0);
    graph
        .sparse_initializer
        .push(crate::sparse::sparse("w", &[4, 3, 1, 1], &[1, 5], &[2], &[2.0, 3.0]));
    model.encode_to_vec()
}

#[test]
fn the_model_for_random_changes_is_valid() {
    assert!(Backbone::from_bytes(&with_a_sparse_constant(), "sound.onnx").is_ok());
}

#[test]
fn nested_calls_with_attributes_and_their_defaults_are_inlined() {
    let backbone = load(&model(vec![block(), act()])).unwrap();
    let slopes: Vec<f32> = backbone
        .graph()
        .nodes
        .iter()
        .filter_map(|node| match node.op {
            Op::Activation(Activation::LeakyRelu { alpha }) => Some(alpha),
            _ => None,
        })
        .collect();
    assert_eq!(slopes, [0.25, 0.5]);
    assert_eq!(backbone.sites().len(), 2);
    assert_ne!(backbone.sites()[0].name, backbone.sites()[1].name);
}

#[test]
fn an_input_passed_through_a_function_is_kept() {
    let identity = function("Act", &["x"], &["x"], Vec::new());
    assert_eq!(load(&model(vec![block(), identity])).unwrap().sites().len(), 2);
}

#[test]
fn the_opset_of_the_functions_applies_where_the_model_imports_none() {
    let mut model = model(vec![block(), act()]);
    let sets = std::mem::take(&mut model.opset_import);
    assert!(load(&model).is_err());
    model.functions[0].opset_import = sets;
    assert!(load(&model).is_ok());
}

#[test]
fn a_function_that_calls_itself_is_refused() {
    let circle = function(
        "Act",
        &["x"],
        &["y"],
        vec![call("local", "Block", &["x", "x"], &["y"], Vec::new())],
    );
    let text = load(&model(vec![block(), circle])).unwrap_err().to_string();
    assert!(text.contains("calls itself"), "{text}");
}

#[test]
fn two_functions_of_one_name_are_refused() {
    let text = load(&model(vec![block(), act(), act()])).unwrap_err().to_string();
    assert!(text.contains("function `local.Act` is defined twice"), "{text}");
}

/// Twenty functions each call the next one twice, which gives a million nodes from two kilobytes.
#[test]
fn calls_that_double_at_every_level_are_refused_early() {
    let level = |index: usize| {
        let next = format!("L{}", index + 1);
        function(
            &format!("L{index}"),
            &["x"],
            &["y"],
            vec![
                call("local", &next, &["x"], &["m"], Vec::new()),
                call("local", &next, &["m"], &["y"], Vec::new()),
            ],
        )
    };
    let mut functions: Vec<FunctionProto> = (0..20).map(level).collect();
    functions.push(function(
        "L20",
        &["x"],
        &["y"],
        vec![call("", "Relu", &["x"], &["y"], Vec::new())],
    ));
    let mut model = model(functions);
    model.graph.as_mut().unwrap().node = vec![call("local", "L0", &["x"], &["y"], Vec::new())];
    assert!(load(&model).is_err());
}

/// Calls a body with a large constant many times. There may be few nodes, but their bytes are counted too.
#[test]
fn a_large_constant_in_a_function_called_often_is_refused() {
    let large = AttributeProto {
        t: Some(crate::support::tensor("", &[1 << 18], &vec![1.0; 1 << 18])),
        ..crate::support::int("value", 0)
    };
    let body = vec![
        call("", "Constant", &[], &["unused"], vec![large]),
        call("", "Relu", &["x"], &["y"], Vec::new()),
    ];
    let mut model = model(vec![function("Act", &["x"], &["y"], body)]);
    let nodes: Vec<NodeProto> = (0..200)
        .map(|index| {
            let (from, to) = (
                if index == 0 { "x".into() } else { format!("v{index}") },
                format!("v{}", index + 1),
            );
            call("local", "Act", &[&from], &[&to], Vec::new())
        })
        .collect();
    model.graph.as_mut().unwrap().node = nodes;
    let text = load(&model).unwrap_err().to_string();
    assert!(text.contains("bytes with all functions inlined: at most"), "{text}");
}

#[test]
fn an_operator_set_entry_of_the_default_domain_is_found_under_both_its_names() {
    let mut model = model(vec![block(), act()]);
    model.opset_import = vec![OperatorSetIdProto {
        domain: Some("ai.onnx".into()),
        version: Some(13),
    }];
    assert!(load(&model).is_ok());
}
