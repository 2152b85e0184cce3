//! Canonical form of a graph. Groups of nodes that together are one operation become a single node, and unused nodes
//! are removed.
//!
//! The conversion is idempotent, so a backbone that is written to a file and read again is unchanged.
//!
//! | nodes, each read only by the next | becomes |
//! |---|---|
//! | Sigmoid, Mul with the same input | `Silu` |
//! | + 3, Clip 0–6, ÷ 6 | `HardSigmoid` |
//! | `HardSigmoid(⅙, ½)`, Mul with the same input; or + 3, Clip 0–6, Mul with the same input, ÷ 6 | `HardSwish` |
//! | `ChannelAffine`, `ChannelAffine` | `ChannelAffine` |
//! | Dense, `ChannelAffine` (a MatMul and its bias) | Dense |
//! | `LayerNorm` or `GroupNorm`, `ChannelAffine` | the norm |
//! | Conv, `ChannelAffine` of scale 1 | Conv with a bias |
//! | Conv, any other `ChannelAffine` (a norm written as Mul and Add) | Conv, `BatchNorm` with μ = 0, σ² = 1, ε = 0 |

mod constants;
mod spellings;

use crate::{
    Tensor,
    graph::{Graph, Node, Op, ValueId},
};

/// Tolerance for constants such as ⅙, which exporters round.
const TOLERANCE: f32 = 1e-6;

/// Returns the canonical form of a valid graph.
pub(crate) fn canonical(graph: Graph) -> Graph {
    let mut work = Work::new(graph);
    loop {
        while work.sweep(Work::activation) {}
        // Constants are merged with each other first, so that a Mul and an Add after a convolution are merged into it
        // as one node.
        if !work.sweep(Work::join) && !work.sweep(Work::join_convolution) {
            return work.finish();
        }
    }
}

struct Work {
    input_channels: usize,
    features: ValueId,
    nodes: Vec<Option<Node>>,
    /// Number of readers of each value. The graph's output, the features, counts as a reader too.
    reads: Vec<usize>,
}

impl Work {
    /// Creates the graph without the nodes that the features do not depend on. They are removed first, because they
    /// must not count as readers.
    fn new(graph: Graph) -> Self {
        let mut reads = vec![0; graph.nodes.len() + 1];
        reads[graph.features.0] += 1;
        let mut nodes: Vec<_> = graph.nodes.into_iter().map(Some).collect();
        for (index, slot) in nodes.iter_mut().enumerate().rev() {
            if reads[index + 1] == 0 {
                *slot = None;
            }
            slot.iter()
                .flat_map(|node| &node.inputs)
                .for_each(|input| reads[input.0] += 1);
        }
        Self {
            input_channels: graph.input_channels,
            features: graph.features,
            nodes,
            reads,
        }
    }

    /// Calls `rule` for every node as the possible last node of a group.
    fn sweep(&mut self, rule: impl Fn(&mut Self, usize) -> bool) -> bool {
        let mut changed = false;
        for index in 0..self.nodes.len() {
            changed |= rule(self, index);
        }
        changed
    }

    fn node(&self, index: usize) -> Option<&Node> {
        self.nodes[index].as_ref()
    }

    /// Returns the node that produces `value`, if it has no other reader.
    fn exclusive(&self, value: ValueId) -> Option<usize> {
        value
            .producer()
            .filter(|&index| self.reads[value.0] == 1 && self.nodes[index].is_some())
    }

    /// Puts `node` at `index`, and removes the nodes that it absorbs.
    fn replace(&mut self, index: usize, absorbed: &[usize], node: Node) {
        for &old in absorbed.iter().chain([&index]) {
            for input in self.nodes[old].take().map_or_else(Vec::new, |node| node.inputs) {
                self.reads[input.0] -= 1;
            }
        }
        node.inputs.iter().for_each(|input| self.reads[input.0] += 1);
        self.nodes[index] = Some(node);
    }

    /// Renumbers the remaining nodes.
    fn finish(self) -> Graph {
        let mut places = vec![ValueId::IMAGE; self.reads.len()];
        let mut nodes = Vec::new();
        for (index, node) in self.nodes.into_iter().enumerate() {
            let Some(mut node) = node else { continue };
            node.inputs.iter_mut().for_each(|input| *input = places[input.0]);
            nodes.push(normalised(node));
            places[index + 1] = ValueId(nodes.len());
        }
        Graph {
            input_channels: self.input_channels,
            nodes,
            features: places[self.features.0],
        }
    }
}

/// Replaces an offset of −0 by +0. It is written as a Mul and an Add, and reading these gives +0.
fn normalised(mut node: Node) -> Node {
    if let Op::ChannelAffine { bias, .. } | Op::GroupNorm { bias, .. } = &mut node.op
        && bias.data().iter().any(|value| value.to_bits() == (-0.0_f32).to_bits())
    {
        let values: Vec<f32> = bias.data().iter().map(|value| value + 0.0).collect();
        *bias = Tensor::new(bias.shape(), values);
    }
    node
}

fn near(value: f32, expected: f32) -> bool {
    (value - expected).abs() <= TOLERANCE
}

fn all(tensor: &Tensor, expected: f32) -> bool {
    tensor.data().iter().all(|&value| near(value, expected))
}
