//! Opaque steps of a file that this library wrote, as listed in its metadata.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Import,
        value::{Refusal, Value, unsupported},
    },
    region::Region,
};
use crate::{
    Shape,
    graph::{Node, Op, ValueId},
    metadata::StepEntry,
    opaque::Opaque,
};

/// The steps of a file, by their nodes.
#[derive(Default)]
pub(in super::super) struct OwnSteps<'a> {
    entries: &'a [StepEntry],
    /// The step of a node, by the node's name.
    step_of: HashMap<&'a str, usize>,
}

impl<'a> OwnSteps<'a> {
    pub(in super::super) fn new(entries: &'a [StepEntry]) -> Self {
        let nodes = |(index, entry): (usize, &'a StepEntry)| entry.nodes.iter().map(move |node| (node.as_str(), index));
        Self {
            entries,
            step_of: entries.iter().enumerate().flat_map(nodes).collect(),
        }
    }

    /// Returns the entry of the step that contains a node.
    pub(in super::super) fn entry(&self, node: &str) -> Option<&'a StepEntry> {
        self.step_of.get(node).map(|&index| &self.entries[index])
    }
}

impl<'a> Import<'a> {
    /// Returns the value of the last node of a step that this library wrote.
    pub(in super::super) fn own_step(&mut self, entry: &'a StepEntry) -> Result<Value, Refusal> {
        let shape = match entry.shape[..] {
            [channels, height, width] => Shape::Map([channels, height, width]),
            [length] => Shape::Vector(length),
            _ => return unsupported(format!("metadata `clr.opaque`: a step of shape {:?}", entry.shape)),
        };
        let mut inputs = Vec::new();
        let mut region = Region::default();
        for (index, name) in entry.inputs.iter().enumerate() {
            match self.values.get(name.as_str()) {
                Some(Value::Data(value)) => inputs.push(*value),
                Some(Value::Unknown) | None => return Err(Refusal::Tainted),
                Some(other) => return unsupported(format!("metadata `clr.opaque`: `{name}` is {}", other.describe())),
            }
            region.names.insert(name.clone(), Opaque::input_name(index));
        }
        let wanted: HashSet<&str> = entry.nodes.iter().map(String::as_str).collect();
        let mut order: Vec<usize> = (0..self.file.node.len())
            .filter(|&index| wanted.contains(self.names[index].as_str()))
            .collect();
        order.sort_unstable_by_key(|&index| (self.places.get(&index).copied().unwrap_or(usize::MAX), index));
        for index in order {
            let node = &self.file.node[index];
            for name in super::super::order::inputs(node) {
                if !region.names.contains_key(name) {
                    let tensor = self.stored(name).map_err(Refusal::Unsupported)?;
                    region.constant(name, tensor);
                }
            }
            region.node(node);
        }
        let Some(output) = region.names.get(&entry.output).cloned() else {
            return unsupported(format!("metadata `clr.opaque`: nothing produces `{}`", entry.output));
        };
        region.rename(&output, Opaque::OUTPUT);
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.shape(input)).collect();
        let step = Opaque::new(
            self.opset.max(crate::write::OPSET),
            region.graph,
            shapes,
            shape,
            entry.single,
        );
        self.nodes.push(Node {
            name: entry.name.clone(),
            op: Op::Opaque(step.into()),
            inputs,
        });
        self.shapes.push(shape);
        Ok(Value::Data(ValueId(self.nodes.len())))
    }
}
