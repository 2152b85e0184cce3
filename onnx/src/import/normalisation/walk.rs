//! Finds all values in a graph that depend on the image only per channel.

use std::collections::HashMap;

use super::{Channel, External, PerChannel, constants::Constants, operators, order};
use crate::proto::{AttributeProto, GraphProto, NodeProto};

/// The values per channel of a graph.
pub(super) struct Walk<'a> {
    graph: &'a GraphProto,
    constants: Constants<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(graph: &'a GraphProto, external: &'a External) -> Self {
        Self {
            graph,
            constants: Constants::new(graph, external),
        }
    }

    /// Returns these values by name.
    pub(super) fn run(&self, input: &str, start: PerChannel) -> HashMap<String, PerChannel> {
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

    /// Returns the outputs of a node that are per-channel values.
    fn node(&self, node: &NodeProto, values: &HashMap<String, PerChannel>) -> Option<Vec<PerChannel>> {
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return None;
        }
        let at = |index: usize| node.input.get(index).and_then(|name| values.get(name));
        let operator = node.op_type.as_deref()?;
        if operator == "Concat" {
            return operators::concat(node, values).map(|value| vec![value]);
        }
        if let ("Add" | "Mul" | "Sub", None, Some(value)) = (operator, at(0), at(1)) {
            let constant = self.per_channel(node, 0, value)?;
            return Some(operators::arithmetic(value, |lane, index| match operator {
                "Add" => (lane.scale, lane.bias + constant(index)),
                "Mul" => (lane.scale * constant(index), lane.bias * constant(index)),
                _ => (-lane.scale, constant(index) - lane.bias),
            }));
        }
        let value = at(0)?;
        match operator {
            "Identity" => Some(vec![value.clone()]),
            "Cast" => operators::cast(node, value),
            "Add" | "Sub" | "Mul" | "Div" if at(1).is_none() => {
                let constant = self.per_channel(node, 1, value)?;
                Some(operators::arithmetic(value, |lane, index| match operator {
                    "Add" => (lane.scale, lane.bias + constant(index)),
                    "Sub" => (lane.scale, lane.bias - constant(index)),
                    "Mul" => (lane.scale * constant(index), lane.bias * constant(index)),
                    _ => (lane.scale / constant(index), lane.bias / constant(index)),
                }))
            }
            "BatchNormalization" => self.norm(node, value),
            "Conv" => self.convolution(node, value),
            "Transpose" => operators::transpose(node, value),
            "Unsqueeze" => self.unsqueeze(node, value),
            "Gather" => self.gather(node, value),
            "GatherND" => self.gather_nd(node, value),
            "Slice" => self.slice(node, value),
            "Split" => self.split(node, value),
            _ => None,
        }
    }

    pub(super) fn floats(&self, node: &NodeProto, index: usize) -> Option<(Vec<usize>, Vec<f64>)> {
        self.constants.floats(node.input.get(index)?)
    }

    pub(super) fn integers(&self, node: &NodeProto, index: usize) -> Option<(Vec<usize>, Vec<i64>)> {
        self.constants.integers(node.input.get(index)?)
    }

    /// Returns a float constant that varies only along the channels of `value`.
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
}

/// Returns an attribute by its name.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some(name))
}
