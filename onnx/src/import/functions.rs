//! Local functions of a model (ONNX IR version 8), which are inlined.

use std::collections::{HashMap, HashSet};

use prost::Message as _;

use crate::{
    OnnxError,
    limits::MAX_NODES,
    proto::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto},
};

/// Maximum depth of calls between functions.
const MAX_DEPTH: usize = 32;
/// Maximum bytes of nodes after inlining, relative to the bytes of the model, and an allowance for every model.
const MAX_GROWTH: usize = 4;
const MAX_BYTES: usize = 16 << 20;

type Key<'a> = (&'a str, &'a str);

/// Replaces every call of a local function by the function's nodes.
///
/// # Errors
/// [`OnnxError`] if functions are recursive or nested too deep, if two functions have the same name, or if there are
/// more nodes than a graph may have.
pub(super) fn inline(model: &mut ModelProto, origin: &str) -> Result<(), OnnxError> {
    if model.functions.is_empty() {
        return Ok(());
    }
    let budget = MAX_BYTES + MAX_GROWTH * model.encoded_len();
    let functions = std::mem::take(&mut model.functions);
    let mut table: HashMap<Key<'_>, &FunctionProto> = HashMap::new();
    for function in &functions {
        let key = (
            function.domain.as_deref().unwrap_or(""),
            function.name.as_deref().unwrap_or(""),
        );
        if table.insert(key, function).is_some() {
            return Err(OnnxError::Duplicate {
                origin: origin.to_owned(),
                what: "function",
                name: format!("{}.{}", key.0, key.1),
            });
        }
    }
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut inliner = Inliner {
        table,
        origin,
        calls: 0,
        bytes: 0,
        budget,
        nodes: Vec::new(),
    };
    for node in std::mem::take(&mut graph.node) {
        inliner.add(node, 0)?;
    }
    graph.node = inliner.nodes;
    import_sets(&mut model.opset_import, &functions);
    Ok(())
}

struct Inliner<'a> {
    table: HashMap<Key<'a>, &'a FunctionProto>,
    origin: &'a str,
    /// Number of calls so far. It is part of the names of inner values, which makes them unique.
    calls: usize,
    bytes: usize,
    budget: usize,
    nodes: Vec<NodeProto>,
}

impl<'a> Inliner<'a> {
    fn add(&mut self, node: NodeProto, depth: usize) -> Result<(), OnnxError> {
        let key = (
            node.domain.as_deref().unwrap_or(""),
            node.op_type.as_deref().unwrap_or(""),
        );
        let Some(&function) = self.table.get(&key) else {
            self.bytes += node.encoded_len();
            self.nodes.push(node);
            let too_large = |what: &str, limit: usize, got: usize| OnnxError::TooLarge {
                origin: self.origin.to_owned(),
                what: format!("{what} with all functions inlined"),
                limit: limit as u64,
                got: got as u64,
            };
            return if self.nodes.len() > MAX_NODES {
                Err(too_large("nodes", MAX_NODES, self.nodes.len()))
            } else if self.bytes > self.budget {
                Err(too_large("bytes", self.budget, self.bytes))
            } else {
                Ok(())
            };
        };
        self.calls += 1;
        if depth == MAX_DEPTH || self.calls > MAX_NODES {
            return Err(OnnxError::Malformed {
                origin: self.origin.to_owned(),
                reason: format!(
                    "the function `{}.{}` calls itself, or functions call too deep",
                    key.0, key.1
                ),
            });
        }
        self.call(&node, function, depth)
    }

    fn call(&mut self, call: &NodeProto, function: &'a FunctionProto, depth: usize) -> Result<(), OnnxError> {
        let name = call
            .name
            .as_deref()
            .filter(|name| !name.is_empty())
            .or(call.op_type.as_deref())
            .unwrap_or("");
        let prefix = format!("{name}#{}", self.calls);
        let mut values: HashMap<&str, String> = HashMap::new();
        for (place, formal) in function.input.iter().enumerate() {
            values.insert(formal, call.input.get(place).cloned().unwrap_or_default());
        }
        let produced: HashSet<&str> = function
            .node
            .iter()
            .flat_map(|node| &node.output)
            .map(String::as_str)
            .collect();
        let mut passed = Vec::new();
        for (place, formal) in function.output.iter().enumerate() {
            let Some(actual) = call.output.get(place).filter(|actual| !actual.is_empty()) else {
                continue;
            };
            if produced.contains(formal.as_str()) && !values.contains_key(formal.as_str()) {
                values.insert(formal, actual.clone());
            } else {
                // The function passes an input through, or two of its outputs are the same value.
                passed.push((formal.as_str(), actual.clone()));
            }
        }
        let rename = |value: &String| match values.get(value.as_str()) {
            _ if value.is_empty() => String::new(),
            Some(actual) => actual.clone(),
            None => format!("{prefix}/{value}"),
        };
        for inner in &function.node {
            let inner_name = inner.name.as_deref().filter(|name| !name.is_empty());
            let node = NodeProto {
                input: inner.input.iter().map(rename).collect(),
                output: inner.output.iter().map(rename).collect(),
                name: inner_name.map(|inner| format!("{name}/{inner}")),
                attribute: inner
                    .attribute
                    .iter()
                    .filter_map(|own| attribute(own, call, function))
                    .collect(),
                ..inner.clone()
            };
            self.add(node, depth + 1)?;
        }
        for (formal, actual) in passed {
            let node = NodeProto {
                input: vec![rename(&formal.to_owned())],
                output: vec![actual],
                op_type: Some("Identity".to_owned()),
                ..NodeProto::default()
            };
            self.add(node, depth + 1)?;
        }
        Ok(())
    }
}

/// Returns an attribute of a node in a function body. If it refers to an attribute of the call, returns the call's
/// value or the function's default; `None` if there is neither.
fn attribute(own: &AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    let Some(wanted) = own.ref_attr_name.as_deref().filter(|name| !name.is_empty()) else {
        return Some(own.clone());
    };
    let mut given = call.attribute.iter().chain(&function.attribute_proto);
    let value = given.find(|attribute| attribute.name.as_deref() == Some(wanted))?;
    Some(AttributeProto {
        name: own.name.clone(),
        ..value.clone()
    })
}

/// Adds the operator sets that the functions import, for domains that the model itself does not import.
fn import_sets(sets: &mut Vec<OperatorSetIdProto>, functions: &[FunctionProto]) {
    let domain = |set: &OperatorSetIdProto| match set.domain.as_deref() {
        None | Some("ai.onnx") => String::new(),
        Some(domain) => domain.to_owned(),
    };
    let own: HashSet<String> = sets.iter().map(domain).collect();
    let further = functions.iter().flat_map(|function| &function.opset_import);
    sets.extend(
        further
            .filter(|set| !own.contains(&domain(set)))
            .cloned()
            .collect::<Vec<_>>(),
    );
}
