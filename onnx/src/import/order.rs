//! Selection, order and names of the nodes that the output depends on.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    OnnxError,
    limits::{MAX_NODES, RESERVED_NAME},
    proto::{GraphProto, NodeProto},
};

/// Returns the nodes that `output` depends on, in topological order. Independent nodes keep the file's order.
pub(super) fn needed(
    graph: &GraphProto,
    given: &HashSet<&str>,
    output: &str,
    origin: &str,
) -> Result<Vec<usize>, OnnxError> {
    let nodes = &graph.node;
    if nodes.len() > MAX_NODES {
        let (what, limit, got) = ("nodes".to_owned(), MAX_NODES as u64, nodes.len() as u64);
        return Err(OnnxError::TooLarge {
            origin: origin.to_owned(),
            what,
            limit,
            got,
        });
    }
    let producers = producers(nodes, given, origin)?;
    let mut wanted = vec![false; nodes.len()];
    let mut stack = Vec::new();
    match producers.get(output) {
        Some(&index) => stack.push(index),
        None if given.contains(output) => return Ok(Vec::new()),
        None => {
            let reason = format!("nothing produces `{output}`");
            return Err(OnnxError::Output {
                origin: origin.to_owned(),
                reason,
            });
        }
    }
    // For each node, the number of pending inputs and the list of its readers.
    let mut waiting = vec![0_usize; nodes.len()];
    let mut waiters = vec![Vec::new(); nodes.len()];
    while let Some(index) = stack.pop() {
        if std::mem::replace(&mut wanted[index], true) {
            continue;
        }
        for input in inputs(&nodes[index]) {
            if let Some(&producer) = producers.get(input) {
                waiting[index] += 1;
                waiters[producer].push(index);
                stack.push(producer);
            } else if !given.contains(input) {
                let (node, value) = (label(&nodes[index], index), input.to_owned());
                return Err(OnnxError::MissingValue {
                    origin: origin.to_owned(),
                    node,
                    value,
                });
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len())
        .filter(|&index| wanted[index] && waiting[index] == 0)
        .collect();
    let mut order = Vec::new();
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &waiter in &waiters[index] {
            waiting[waiter] -= 1;
            if waiting[waiter] == 0 {
                ready.insert(waiter);
            }
        }
    }
    let stuck = (0..nodes.len()).filter(|&index| wanted[index] && waiting[index] > 0);
    let stuck: Vec<String> = stuck
        .take(5)
        .map(|index| format!("`{}`", label(&nodes[index], index)))
        .collect();
    if stuck.is_empty() {
        Ok(order)
    } else {
        Err(OnnxError::Cycle {
            origin: origin.to_owned(),
            nodes: stuck,
        })
    }
}

fn producers<'a>(
    nodes: &'a [NodeProto],
    given: &HashSet<&str>,
    origin: &str,
) -> Result<HashMap<&'a str, usize>, OnnxError> {
    let mut producers = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if given.contains(output.as_str()) || producers.insert(output.as_str(), index).is_some() {
                return Err(OnnxError::Duplicate {
                    origin: origin.to_owned(),
                    what: "value",
                    name: output.clone(),
                });
            }
        }
    }
    Ok(producers)
}

/// Returns the values that a node reads.
pub(super) fn inputs(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.input.iter().map(String::as_str).filter(|input| !input.is_empty())
}

fn label(node: &NodeProto, index: usize) -> String {
    match node.name.as_deref() {
        None | Some("") => format!("{} {index}", node.op_type.as_deref().unwrap_or("node")),
        Some(name) => name.to_owned(),
    }
}

/// Returns a name for every node of the file: its own if that is unique, otherwise `{operator}_{index in the file}`.
pub(super) fn names(nodes: &[NodeProto]) -> Vec<String> {
    let own = |node: &NodeProto| {
        node.name
            .clone()
            .filter(|name| !name.is_empty() && name != RESERVED_NAME)
    };
    let mut uses: HashMap<String, usize> = HashMap::new();
    nodes
        .iter()
        .filter_map(own)
        .for_each(|name| *uses.entry(name).or_default() += 1);
    let mut taken: HashSet<String> = uses.keys().cloned().collect();
    let named = nodes.iter().enumerate().map(|(index, node)| match own(node) {
        Some(name) if uses[&name] == 1 => name,
        _ => free(
            &mut taken,
            format!("{}_{index}", node.op_type.as_deref().unwrap_or("node").to_lowercase()),
        ),
    });
    named.collect()
}

/// Returns `wanted`, with underscores appended until the name is free.
pub(super) fn free(taken: &mut HashSet<String>, wanted: String) -> String {
    let mut name = wanted;
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}
