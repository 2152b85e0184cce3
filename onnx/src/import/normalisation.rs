//! Normalisation at the start of a graph, moved out of it: arithmetic with constants per channel, a norm, a 1×1 convolution with
//! one weight a row, the reversal of the channels, casts and transposes directly on the input.
//!
//! Works on the file's nodes: the last value that depends on the image per channel only, and through which everything
//! else depends on it, becomes the input. The graph is then the same as that of the network exported without them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use super::{
    constant,
    convention::{InGraph, Lane},
    order,
    value::{Dim, Value},
};
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// The most elements of a constant that is read here.
const MAX_CONSTANT: i64 = 64;

/// An axis of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Batch,
    Channel,
    Row,
    Column,
}
use Axis::{Batch, Channel, Column, Row};

/// A value that depends on the image per channel: `scale · x[source] + bias` each.
#[derive(Clone, Debug)]
struct PerChannel {
    lanes: Vec<Lane>,
    axes: Vec<Axis>,
    /// Not yet cast to floats.
    integer: bool,
}

/// Moves the normalisation out of `graph`, whose outputs stay as they are. `None` if the graph starts otherwise; then it is unchanged.
pub(super) fn take_out(graph: &mut GraphProto, folder: Option<&Path>) -> Option<InGraph> {
    let (input, start) = image(graph)?;
    let integer = start.integer;
    let values = Walk::new(graph, folder).run(&input, start);
    let place: HashMap<&str, usize> = producers(graph);
    let mut candidates: Vec<(&str, &PerChannel)> = values
        .iter()
        .filter(|(name, _)| place.contains_key(name.as_str()))
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    // The deepest first: it has the most nodes before it.
    candidates.sort_by_key(|&(name, _)| (std::cmp::Reverse(depth(graph, &place, name)), name.to_owned()));
    let (name, found, removed, axes) = candidates.into_iter().find_map(|(name, value)| {
        let lanes: [Lane; 3] = value.lanes.clone().try_into().ok()?;
        let complete = value.axes.len() == 4 && !value.integer;
        let found = InGraph::deduce(lanes, integer).filter(|_| complete)?;
        let removed = cut(graph, &place, &values, &input, name)?;
        Some((name.to_owned(), found, removed, value.axes.clone()))
    })?;
    rewrite(graph, &values, &input, &name, &removed, &axes);
    Some(found)
}

/// The one input that is no initialiser, if it is an image of three channels.
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
    let axes = match dims[..] {
        [_, Some(3), _, _] => vec![Batch, Channel, Row, Column],
        [_, _, _, Some(3)] => vec![Batch, Row, Column, Channel],
        _ => return None,
    };
    let integer = match tensor.elem_type? {
        TensorProto::UINT8 | TensorProto::INT8 | TensorProto::INT32 | TensorProto::INT64 => true,
        TensorProto::FLOAT | TensorProto::FLOAT16 | TensorProto::DOUBLE => false,
        _ => return None,
    };
    let lanes = (0..3).map(|source| Lane {
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

/// Number of nodes on the longest way from the image to `name`.
fn depth(graph: &GraphProto, place: &HashMap<&str, usize>, name: &str) -> usize {
    // Values per channel come from few nodes, without cycles: `Walk` built them one after the other.
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

/// The nodes that are needless once `name` is the input: all that only it needs. `None` if something else reads the image.
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
            // The shape of the image is that of the new input, if the axes are in the same order.
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

/// The input as floats, with its axes in the order of `axes`.
fn as_floats(info: &mut ValueInfoProto, axes: &[Axis]) {
    let Some(tensor) = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) else {
        return;
    };
    tensor.elem_type = Some(TensorProto::FLOAT);
    if let Some(shape) = &mut tensor.shape
        && shape.dim.len() == 4
        && shape.dim[1].dim_value != Some(3)
        && axes == [Batch, Channel, Row, Column]
    {
        let channel = shape.dim.remove(3);
        shape.dim.insert(1, channel);
    }
}

/// The values per channel of a graph.
struct Walk<'a> {
    graph: &'a GraphProto,
    folder: Option<&'a Path>,
    constants: HashMap<&'a str, &'a TensorProto>,
    place: HashMap<&'a str, usize>,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a GraphProto, folder: Option<&'a Path>) -> Self {
        let named = |tensor: &'a TensorProto| Some((tensor.name.as_deref()?, tensor));
        Self {
            graph,
            folder,
            constants: graph.initializer.iter().filter_map(named).collect(),
            place: producers(graph),
        }
    }

    /// Everything that depends on the image per channel, by name.
    fn run(&self, input: &str, start: PerChannel) -> HashMap<String, PerChannel> {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in self.graph.node.iter().enumerate() {
            for value in order::inputs(node) {
                readers.entry(value).or_default().push(index);
            }
        }
        let mut values = HashMap::from([(input.to_owned(), start)]);
        let mut fresh = vec![input.to_owned()];
        while let Some(name) = fresh.pop() {
            for &index in readers.get(name.as_str()).into_iter().flatten() {
                let node = &self.graph.node[index];
                let known = node.output.iter().all(|output| values.contains_key(output));
                let Some(results) = (!known).then(|| self.node(node, &values)).flatten() else {
                    continue;
                };
                for (output, value) in node.output.iter().zip(results) {
                    fresh.push(output.clone());
                    values.insert(output.clone(), value);
                }
            }
        }
        values
    }

    /// The outputs of a node, if they are values per channel.
    fn node(&self, node: &NodeProto, values: &HashMap<String, PerChannel>) -> Option<Vec<PerChannel>> {
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return None;
        }
        let at = |index: usize| node.input.get(index).and_then(|name| values.get(name));
        let operator = node.op_type.as_deref()?;
        if operator == "Concat" {
            return concat(node, values).map(|value| vec![value]);
        }
        if let ("Add" | "Mul", None, Some(value)) | ("Sub", None, Some(value)) = (operator, at(0), at(1)) {
            let constant = self.per_channel(node, 0, value)?;
            return arithmetic(value, |lane, index| match operator {
                "Add" => (lane.scale, lane.bias + constant(index)),
                "Mul" => (lane.scale * constant(index), lane.bias * constant(index)),
                _ => (-lane.scale, constant(index) - lane.bias),
            });
        }
        let value = at(0)?;
        match operator {
            "Identity" => Some(vec![value.clone()]),
            "Cast" => cast(node, value),
            "Add" | "Sub" | "Mul" | "Div" if at(1).is_none() => {
                let constant = self.per_channel(node, 1, value)?;
                arithmetic(value, |lane, index| match operator {
                    "Add" => (lane.scale, lane.bias + constant(index)),
                    "Sub" => (lane.scale, lane.bias - constant(index)),
                    "Mul" => (lane.scale * constant(index), lane.bias * constant(index)),
                    _ => (lane.scale / constant(index), lane.bias / constant(index)),
                })
            }
            "BatchNormalization" => self.norm(node, value),
            "Conv" => self.convolution(node, value),
            "Transpose" => transpose(node, value),
            "Unsqueeze" => self.unsqueeze(node, value),
            "Gather" => self.gather(node, value),
            "Slice" => self.slice(node, value),
            "Split" => self.split(node, value),
            _ => None,
        }
    }

    /// A small constant: an initialiser, a Constant, or one passed on by Identity or Cast.
    fn constant(&self, node: &NodeProto, index: usize) -> Option<Value> {
        let mut name = node.input.get(index)?.as_str();
        for _ in 0..8 {
            if let Some(tensor) = self.constants.get(name) {
                let small = tensor.dims.iter().product::<i64>() <= MAX_CONSTANT;
                return small
                    .then(|| constant::value(tensor, name, "", self.folder).ok())
                    .flatten();
            }
            let source = &self.graph.node[*self.place.get(name)?];
            match source.op_type.as_deref()? {
                "Identity" | "Cast" => name = source.input.first()?,
                "Constant" => return literal(source, self.folder),
                _ => return None,
            }
        }
        None
    }

    fn floats(&self, node: &NodeProto, index: usize) -> Option<(Vec<usize>, Vec<f64>)> {
        match self.constant(node, index)? {
            Value::Tensor(tensor) => {
                let values = tensor.data().iter().map(|&value| f64::from(value));
                Some((tensor.shape().to_vec(), values.collect()))
            }
            _ => None,
        }
    }

    fn integers(&self, node: &NodeProto, index: usize) -> Option<(Vec<usize>, Vec<i64>)> {
        match self.constant(node, index)? {
            Value::Integers { dims, values } => {
                let known = values.iter().map(|value| match value {
                    Dim::Known(value) => Some(*value),
                    Dim::Batch => None,
                });
                Some((dims, known.collect::<Option<_>>()?))
            }
            _ => None,
        }
    }

    /// A float constant that broadcasts over everything but the channels of `value`.
    fn per_channel(&self, node: &NodeProto, index: usize, value: &PerChannel) -> Option<impl Fn(usize) -> f64> {
        let (dims, values) = self.floats(node, index)?;
        if value.integer || dims.len() > value.axes.len() {
            return None;
        }
        let axes = &value.axes[value.axes.len() - dims.len()..];
        let fits = dims
            .iter()
            .zip(axes)
            .all(|(&dim, &axis)| dim == 1 || axis == Channel && dim == value.lanes.len());
        (fits && !values.is_empty()).then_some(move |lane: usize| values[lane % values.len()])
    }

    fn norm(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let training = attribute(node, "training_mode")
            .and_then(|attribute| attribute.i)
            .unwrap_or(0)
            != 0;
        if training || value.integer || value.axes.get(1) != Some(&Channel) {
            return None;
        }
        let epsilon = attribute(node, "epsilon")
            .and_then(|attribute| attribute.f)
            .unwrap_or(1e-5);
        let part = |index| {
            self.floats(node, index)
                .map(|(_, values)| values)
                .filter(|values| values.len() == value.lanes.len())
        };
        let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        arithmetic(value, |lane, index| {
            let scale = gamma[index] / (variance[index] + f64::from(epsilon)).sqrt();
            (lane.scale * scale, (lane.bias - mean[index]) * scale + beta[index])
        })
    }

    /// A 1×1 convolution of which every output reads one channel.
    fn convolution(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let ints = |name: &str, expected: i64| {
            attribute(node, name).is_none_or(|attribute| attribute.ints.iter().all(|&value| value == expected))
        };
        let plain = ints("pads", 0) && ints("strides", 1);
        if !plain || value.integer || value.axes != [Batch, Channel, Row, Column] {
            return None;
        }
        let (dims, weights) = self.floats(node, 1)?;
        let &[outputs, per_group, 1, 1] = &dims[..] else {
            return None;
        };
        let group = attribute(node, "group").and_then(|attribute| attribute.i).unwrap_or(1);
        let group = usize::try_from(group).ok().filter(|&group| group > 0)?;
        if per_group * group != value.lanes.len() || outputs % group != 0 {
            return None;
        }
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(_) => self.floats(node, 2)?.1,
            None => vec![0.0; outputs],
        };
        let lanes = (0..outputs).map(|output| {
            let row = &weights[output * per_group..(output + 1) * per_group];
            let mut used = row.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
            let (Some((place, weight)), None) = (used.next(), used.next()) else {
                return None;
            };
            let lane = value.lanes.get(output / (outputs / group) * per_group + place)?;
            Some(Lane {
                source: lane.source,
                scale: lane.scale * weight,
                bias: lane.bias * weight + bias.get(output)?,
            })
        });
        let lanes = lanes.collect::<Option<Vec<_>>>()?;
        Some(vec![PerChannel { lanes, ..value.clone() }])
    }

    fn unsqueeze(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let axes = match attribute(node, "axes") {
            Some(attribute) => attribute.ints.clone(),
            None => self.integers(node, 1)?.1,
        };
        // Only the channel that a Gather of one index took away.
        let (&[axis], 1, false) = (&axes[..], value.lanes.len(), value.axes.contains(&Channel)) else {
            return None;
        };
        let mut axes = value.axes.clone();
        axes.insert(place(axis, axes.len() + 1)?, Channel);
        Some(vec![PerChannel { axes, ..value.clone() }])
    }

    fn gather(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let axis = place(
            attribute(node, "axis").and_then(|attribute| attribute.i).unwrap_or(0),
            value.axes.len(),
        )?;
        if value.axes.get(axis) != Some(&Channel) {
            return None;
        }
        let (dims, indices) = self.integers(node, 1)?;
        let lanes = indices
            .iter()
            .map(|&index| value.lanes.get(place(index, value.lanes.len())?).copied());
        let lanes = lanes.collect::<Option<Vec<_>>>()?;
        let mut axes = value.axes.clone();
        match dims.len() {
            0 => drop(axes.remove(axis)),
            1 => {}
            _ => return None,
        }
        Some(vec![PerChannel {
            lanes,
            axes,
            integer: value.integer,
        }])
    }

    fn slice(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let list = |name: &str, index: usize| match attribute(node, name) {
            Some(attribute) => Some(attribute.ints.clone()),
            None => self.integers(node, index).map(|(_, values)| values),
        };
        let (starts, ends) = (list("starts", 1)?, list("ends", 2)?);
        let axes = list("axes", 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
        let (&[start], &[end], &[axis], &[step]) = (&starts[..], &ends[..], &axes[..], &steps[..]) else {
            return None;
        };
        if value.axes.get(place(axis, value.axes.len())?) != Some(&Channel) {
            return None;
        }
        let count = value.lanes.len() as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(count) } else { index };
        let lanes = match step {
            1 => {
                let (start, end) = (from_end(start).clamp(0, count), from_end(end).clamp(0, count));
                value.lanes.get(start as usize..end as usize)?.to_vec()
            }
            -1 => {
                let (start, end) = (from_end(start).clamp(-1, count - 1), from_end(end).clamp(-1, count - 1));
                let mut lanes = value
                    .lanes
                    .get((end + 1) as usize..=usize::try_from(start).ok()?)?
                    .to_vec();
                lanes.reverse();
                lanes
            }
            _ => return None,
        };
        (!lanes.is_empty()).then(|| vec![PerChannel { lanes, ..value.clone() }])
    }

    fn split(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let axis = place(
            attribute(node, "axis").and_then(|attribute| attribute.i).unwrap_or(0),
            value.axes.len(),
        )?;
        if value.axes.get(axis) != Some(&Channel) {
            return None;
        }
        let sizes = match attribute(node, "split") {
            Some(attribute) => attribute.ints.clone(),
            None if node.input.get(1).is_some_and(|name| !name.is_empty()) => self.integers(node, 1)?.1,
            None => vec![(value.lanes.len() / node.output.len().max(1)) as i64; node.output.len()],
        };
        let mut rest = &value.lanes[..];
        let mut parts = Vec::new();
        for size in sizes {
            let (part, others) = rest.split_at_checked(usize::try_from(size).ok()?)?;
            rest = others;
            parts.push(PerChannel {
                lanes: part.to_vec(),
                ..value.clone()
            });
        }
        (rest.is_empty() && parts.len() == node.output.len()).then_some(parts)
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some(name))
}

/// The value of a Constant node.
fn literal(node: &NodeProto, folder: Option<&Path>) -> Option<Value> {
    let vector = |values: Vec<i64>, dims: Vec<usize>| Value::Integers {
        dims,
        values: values.into_iter().map(Dim::Known).collect(),
    };
    let attribute = node.attribute.first()?;
    match attribute.name.as_deref()? {
        "value" => {
            let tensor = attribute.t.as_ref()?;
            let small = tensor.dims.iter().product::<i64>() <= MAX_CONSTANT;
            small.then(|| constant::value(tensor, "", "", folder).ok()).flatten()
        }
        "value_float" => Some(Value::Tensor(crate::Tensor::new([], vec![attribute.f?]))),
        "value_floats" => Some(Value::Tensor(crate::Tensor::new(
            [attribute.floats.len()],
            attribute.floats.clone(),
        ))),
        "value_int" => Some(vector(vec![attribute.i?], vec![])),
        "value_ints" => Some(vector(attribute.ints.clone(), vec![attribute.ints.len()])),
        _ => None,
    }
}

/// An axis or index, counted from the end if negative.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(length as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&index| index < length)
}

fn arithmetic(value: &PerChannel, change: impl Fn(&Lane, usize) -> (f64, f64)) -> Option<Vec<PerChannel>> {
    let lanes = value.lanes.iter().enumerate().map(|(index, lane)| {
        let (scale, bias) = change(lane, index);
        Lane {
            source: lane.source,
            scale,
            bias,
        }
    });
    Some(vec![PerChannel {
        lanes: lanes.collect(),
        ..value.clone()
    }])
}

fn cast(node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
    let to = i32::try_from(attribute(node, "to")?.i?).ok()?;
    let float = matches!(
        to,
        TensorProto::FLOAT | TensorProto::FLOAT16 | TensorProto::DOUBLE | TensorProto::BFLOAT16
    );
    float.then(|| {
        vec![PerChannel {
            integer: false,
            ..value.clone()
        }]
    })
}

fn transpose(node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
    let perm = &attribute(node, "perm")?.ints;
    let axes = perm
        .iter()
        .map(|&axis| value.axes.get(place(axis, value.axes.len())?).copied());
    let axes = axes.collect::<Option<Vec<_>>>()?;
    (axes.len() == value.axes.len()).then(|| vec![PerChannel { axes, ..value.clone() }])
}

fn concat(node: &NodeProto, values: &HashMap<String, PerChannel>) -> Option<PerChannel> {
    let parts = node
        .input
        .iter()
        .map(|name| values.get(name))
        .collect::<Option<Vec<_>>>()?;
    let first = parts.first()?;
    let axis = place(attribute(node, "axis")?.i?, first.axes.len())?;
    let alike = parts
        .iter()
        .all(|part| part.axes == first.axes && part.integer == first.integer);
    (alike && first.axes[axis] == Channel).then(|| PerChannel {
        lanes: parts.iter().flat_map(|part| part.lanes.clone()).collect(),
        ..(*first).clone()
    })
}
