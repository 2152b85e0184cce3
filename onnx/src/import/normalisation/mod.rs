//! Normalisation at the start of a graph, which is moved into the preprocessing.
//!
//! It may consist of arithmetic with per-channel constants, a norm, a 1×1 convolution with one weight per row, a
//! reversal of the channels, and casts and transposes directly on the input. The search is for the last value that
//! depends on the image only per channel, and through which everything else depends on the image. This value becomes
//! the input. The graph is then the same as for a network exported without these nodes.

mod constants;
mod operators;
mod walk;

use std::collections::{HashMap, HashSet};

use super::{constant, external::External, order, value};
use crate::in_graph::{InGraph, Lane};
use crate::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use walk::Walk;

/// An axis of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Batch,
    Channel,
    Row,
    Column,
}
use Axis::{Batch, Channel, Column, Row};

/// A value whose channels each depend on one channel of the image: `scale · x[source] + bias`.
#[derive(Clone, Debug)]
struct PerChannel {
    lanes: Vec<Lane>,
    axes: Vec<Axis>,
    /// Whether the value has not been cast to floats yet.
    integer: bool,
}

/// Moves the normalisation out of `graph`, whose outputs stay the same. Returns `None` and leaves the graph unchanged
/// if it starts in another way.
pub(super) fn take_out(graph: &mut GraphProto, external: &External) -> Option<InGraph> {
    let (input, start) = image(graph)?;
    let integer = start.integer;
    let values = Walk::new(graph, external).run(&input, start);
    let place: HashMap<&str, usize> = producers(graph);
    let mut candidates: Vec<(&str, &PerChannel)> = values
        .iter()
        .filter(|(name, _)| place.contains_key(name.as_str()))
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    // The deepest candidate comes first, because it has the most nodes before it.
    candidates.sort_by_key(|&(name, _)| (std::cmp::Reverse(depth(graph, &place, name)), name.to_owned()));
    let (name, found, removed, axes) = candidates.into_iter().find_map(|(name, value)| {
        let lanes = match value.lanes[..] {
            // Grey is made of the three alike.
            [grey] => [0, 1, 2].map(|source| Lane { source, ..grey }),
            [red, green, blue] => [red, green, blue],
            _ => return None,
        };
        let complete = value.axes.len() == 4 && !value.integer;
        let found = InGraph::deduce(lanes, integer).filter(|_| complete)?;
        let removed = cut(graph, &place, &values, &input, name)?;
        Some((name.to_owned(), found, removed, value.axes.clone()))
    })?;
    rewrite(graph, &values, &input, &name, &removed, &axes);
    Some(found)
}

/// Returns the single input that is not an initialiser, if it is an image with three channels or one.
fn image(graph: &GraphProto) -> Option<(String, PerChannel)> {
    let constants: HashSet<&str> = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.as_deref())
        .collect();
    let mut inputs = graph
        .input
        .iter()
        .filter(|input| !constants.contains(input.name.as_deref().unwrap_or("")));
    let (input, None) = (inputs.next()?, inputs.next()) else {
        return None;
    };
    let tensor = input.r#type.as_ref()?.tensor_type.as_ref()?;
    let dims: Vec<Option<i64>> = tensor.shape.as_ref()?.dim.iter().map(|dim| dim.dim_value).collect();
    let (first, last) = (vec![Batch, Channel, Row, Column], vec![Batch, Row, Column, Channel]);
    let (channels, axes) = match dims[..] {
        [_, Some(3), _, _] => (3, first),
        [_, _, _, Some(3)] => (3, last),
        [_, Some(1), _, _] => (1, first),
        [_, _, _, Some(1)] => (1, last),
        _ => return None,
    };
    let integer = match tensor.elem_type? {
        TensorProto::UINT8 | TensorProto::INT8 | TensorProto::INT32 | TensorProto::INT64 => true,
        TensorProto::FLOAT | TensorProto::FLOAT16 | TensorProto::DOUBLE => false,
        _ => return None,
    };
    let lanes = (0..channels).map(|source| Lane {
        source,
        scale: 1.0,
        bias: 0.0,
    });
    let value = PerChannel {
        lanes: lanes.collect(),
        axes,
        integer,
    };
    Some((input.name.clone()?, value))
}

fn producers(graph: &GraphProto) -> HashMap<&str, usize> {
    let outputs = |(index, node): (usize, &NodeProto)| -> Vec<(usize, usize)> {
        (0..node.output.len()).map(|place| (index, place)).collect()
    };
    let pairs = graph.node.iter().enumerate().flat_map(outputs);
    pairs
        .map(|(index, place)| (graph.node[index].output[place].as_str(), index))
        .collect()
}

/// Returns the number of nodes on the longest path from the image to `name`.
fn depth(graph: &GraphProto, place: &HashMap<&str, usize>, name: &str) -> usize {
    // Per-channel values depend on few nodes without cycles, because `Walk` built them one after the other.
    let mut deepest = 0;
    let mut stack = vec![(name, 0_usize)];
    while let Some((name, depth)) = stack.pop() {
        deepest = deepest.max(depth);
        if depth > 64 {
            break;
        }
        if let Some(&index) = place.get(name) {
            stack.extend(order::inputs(&graph.node[index]).map(|input| (input, depth + 1)));
        }
    }
    deepest
}

/// Returns the nodes that are unnecessary if `name` is the input, because only `name` depends on them. Returns `None`
/// if another node reads the image.
fn cut(
    graph: &GraphProto,
    place: &HashMap<&str, usize>,
    values: &HashMap<String, PerChannel>,
    input: &str,
    name: &str,
) -> Option<HashSet<usize>> {
    let reach = |stop: Option<&str>| -> Option<HashSet<usize>> {
        let mut reached = HashSet::new();
        let mut stack: Vec<&str> = graph
            .output
            .iter()
            .filter_map(|output| output.name.as_deref())
            .collect();
        if stop.is_some_and(|stop| stack.contains(&stop)) {
            return None;
        }
        while let Some(value) = stack.pop() {
            if stop == Some(value) {
                continue;
            }
            if stop.is_some() && value == input {
                return None;
            }
            let Some(&index) = place.get(value) else { continue };
            if !reached.insert(index) {
                continue;
            }
            let node = &graph.node[index];
            // The shape of the image is also that of the new input, if the axes have the same order.
            let shape = stop.is_some() && node.op_type.as_deref() == Some("Shape");
            let same = |value: &str| {
                let axes = |name: &str| values.get(name).map(|value| &value.axes);
                axes(value).is_some() && axes(value) == stop.and_then(axes)
            };
            stack.extend(order::inputs(node).filter(|value| !(shape && same(value))));
        }
        Some(reached)
    };
    let after = reach(Some(name))?;
    Some(reach(None)?.difference(&after).copied().collect())
}

/// Makes `name` the input and removes the nodes before it.
fn rewrite(
    graph: &mut GraphProto,
    values: &HashMap<String, PerChannel>,
    input: &str,
    name: &str,
    removed: &HashSet<usize>,
    axes: &[Axis],
) {
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    for node in &mut graph.node {
        let shape = node.op_type.as_deref() == Some("Shape");
        for value in &mut node.input {
            if value == name || shape && values.contains_key(value.as_str()) {
                input.clone_into(value);
            }
        }
    }
    let mut inputs = graph.input.iter_mut();
    if let Some(info) = inputs.find(|info| info.name.as_deref() == Some(input)) {
        as_floats(info, axes);
    }
}

/// Declares the input as floats, with its axes in the order of `axes`.
fn as_floats(info: &mut ValueInfoProto, axes: &[Axis]) {
    let Some(tensor) = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) else {
        return;
    };
    tensor.elem_type = Some(TensorProto::FLOAT);
    if let Some(shape) = &mut tensor.shape
        && shape.dim.len() == 4
        && !matches!(shape.dim[1].dim_value, Some(3 | 1))
        && axes == [Batch, Channel, Row, Column]
    {
        let channel = shape.dim.remove(3);
        shape.dim.insert(1, channel);
    }
}
