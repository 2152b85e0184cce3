//! Selection of the values that are rounded.

use std::collections::BTreeSet;

use crate::{Graph, Op, PadMode, ValueId};

/// Returns the values to round, in the graph's order, so that all convolutions except those named in `float` read values
/// on grids.
pub(super) fn places(graph: &Graph, float: &BTreeSet<String>) -> Vec<ValueId> {
    let mut selection = Selection {
        graph,
        float,
        seen: vec![false; graph.nodes.len() + 1],
        places: BTreeSet::new(),
    };
    for node in &graph.nodes {
        let reads = match node.op {
            Op::Conv(_) => !float.contains(&node.name),
            Op::GlobalAveragePool => true,
            _ => false,
        };
        if reads {
            selection.need(node.inputs[0]);
        }
    }
    selection.places.into_iter().collect()
}

struct Selection<'a> {
    graph: &'a Graph,
    float: &'a BTreeSet<String>,
    seen: Vec<bool>,
    places: BTreeSet<ValueId>,
}

impl Selection<'_> {
    /// Selects what puts `value` on a grid.
    fn need(&mut self, value: ValueId) {
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if std::mem::replace(&mut self.seen[value.0], true) {
                continue;
            }
            let Some(node) = value.producer().map(|index| &self.graph.nodes[index]) else {
                self.places.insert(value);
                continue;
            };
            match &node.op {
                // These keep the grid of their input.
                Op::MaxPool(_)
                | Op::GatherChannels { .. }
                | Op::Crop { .. }
                | Op::Flatten
                | Op::Unflatten
                | Op::Pad {
                    mode: PadMode::Constant(0.0) | PadMode::Reflect | PadMode::Edge | PadMode::Wrap,
                    ..
                } => open.extend(&node.inputs),
                // The result of a convolution in float is rounded only where it must be.
                Op::Conv(_) if self.float.contains(&node.name) => {
                    self.places.insert(value);
                }
                Op::Add | Op::Concat | Op::AveragePool(_) => {
                    self.places.insert(value);
                    open.extend(&node.inputs);
                }
                Op::Activation(_) => {
                    self.places.insert(value);
                    // A sum is computed together with its activation.
                    let before = node.inputs[0].producer().map(|index| &self.graph.nodes[index]);
                    if let Some(sum) = before.filter(|before| matches!(before.op, Op::Add)) {
                        open.extend(&sum.inputs);
                    }
                }
                _ => {
                    self.places.insert(value);
                }
            }
        }
    }
}
