//! The canonical form of a graph: what exporters write as several nodes becomes one, and nothing unused remains.
//!
//! Applying it twice changes nothing, so a backbone that is written and read again is the same backbone.
//!
//! | nodes, each read only by the next | becomes |
//! |---|---|
//! | Sigmoid, Mul with the same input | `Silu` |
//! | + 3, Clip 0–6, ÷ 6 | `HardSigmoid` |
//! | `HardSigmoid(⅙, ½)`, Mul with the same input; or + 3, Clip 0–6, Mul with the same input, ÷ 6 | `HardSwish` |
//! | `ChannelAffine`, `ChannelAffine` | `ChannelAffine` |
//! | Dense, `ChannelAffine` (a MatMul and its bias) | Dense |
//! | Conv, `ChannelAffine` of scale 1 | Conv with a bias |
//! | Conv, any other `ChannelAffine` (a norm written as Mul and Add) | Conv, `BatchNorm` with μ = 0, σ² = 1, ε = 0 |

use crate::{
    Tensor,
    graph::{Activation, BatchNorm, Conv, Graph, Node, Op, ValueId},
};

/// ⅙ and ½ as exporters round them.
const TOLERANCE: f32 = 1e-6;
const SIXTH: f32 = 1.0 / 6.0;

/// The canonical form of a valid graph.
pub(crate) fn canonical(graph: Graph) -> Graph {
    let mut work = Work::new(graph);
    loop {
        while work.sweep(Work::activation) {}
        if !work.sweep(Work::merge) {
            return work.finish();
        }
    }
}

struct Work {
    input_channels: usize,
    features: ValueId,
    nodes: Vec<Option<Node>>,
    /// How often each value is read; the features count as a reader.
    reads: Vec<usize>,
}

impl Work {
    fn new(graph: Graph) -> Self {
        let mut reads = vec![0; graph.nodes.len() + 1];
        graph
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .for_each(|input| reads[input.0] += 1);
        reads[graph.features.0] += 1;
        let nodes = graph.nodes.into_iter().map(Some).collect();
        Self {
            input_channels: graph.input_channels,
            features: graph.features,
            nodes,
            reads,
        }
    }

    /// Offers every node, as the last one of a group, to `rule`.
    fn sweep(&mut self, rule: impl Fn(&mut Self, usize) -> bool) -> bool {
        (0..self.nodes.len()).fold(false, |changed, index| rule(self, index) || changed)
    }

    fn node(&self, index: usize) -> Option<&Node> {
        self.nodes[index].as_ref()
    }

    /// The node that produces `value`, if nobody else reads it.
    fn exclusive(&self, value: ValueId) -> Option<usize> {
        value
            .producer()
            .filter(|&index| self.reads[value.0] == 1 && self.nodes[index].is_some())
    }

    /// Puts `node` at `index` and removes the nodes it absorbs.
    fn replace(&mut self, index: usize, absorbed: &[usize], node: Node) {
        for &old in absorbed.iter().chain([&index]) {
            for input in self.nodes[old].take().map_or_else(Vec::new, |node| node.inputs) {
                self.reads[input.0] -= 1;
            }
        }
        node.inputs.iter().for_each(|input| self.reads[input.0] += 1);
        self.nodes[index] = Some(node);
    }

    /// Activations written out.
    fn activation(&mut self, index: usize) -> bool {
        let Some((name, absorbed, op, input)) = self.find_activation(index) else {
            return false;
        };
        self.replace(
            index,
            &absorbed,
            Node {
                name,
                op: Op::Activation(op),
                inputs: vec![input],
            },
        );
        true
    }

    fn find_activation(&self, index: usize) -> Option<(String, Vec<usize>, Activation, ValueId)> {
        let node = self.node(index)?;
        match (&node.op, &node.inputs[..]) {
            (Op::Mul, &[left, right]) => [(left, right), (right, left)].into_iter().find_map(|(x, gate)| {
                let producer = self.exclusive(gate)?;
                let gate = self.node(producer)?;
                let op = match gate.op {
                    Op::Activation(Activation::Sigmoid) => Activation::Silu,
                    Op::Activation(Activation::HardSigmoid { alpha, beta })
                        if near(alpha, SIXTH) && near(beta, 0.5) =>
                    {
                        Activation::HardSwish
                    }
                    _ => return None,
                };
                (gate.inputs[0] == x).then(|| (node.name.clone(), vec![producer], op, x))
            }),
            (Op::ChannelAffine { scale, bias }, &[input]) if all(scale, SIXTH) && all(bias, 0.0) => {
                let producer = self.exclusive(input)?;
                if let Some((x, shift)) = self.clipped_shift(input) {
                    let op = Activation::HardSigmoid {
                        alpha: SIXTH,
                        beta: 0.5,
                    };
                    return Some((node.name.clone(), vec![producer, shift], op, x));
                }
                let product = self.node(producer).filter(|node| node.op == Op::Mul)?;
                let &[left, right] = &product.inputs[..] else {
                    return None;
                };
                [(left, right), (right, left)].into_iter().find_map(|(x, gate)| {
                    let (shifted, shift) = self.clipped_shift(gate)?;
                    let clip = gate.producer()?;
                    (shifted == x).then(|| (node.name.clone(), vec![producer, clip, shift], Activation::HardSwish, x))
                })
            }
            _ => None,
        }
    }

    /// For `value = clip(x + 3, 0, 6)`: `x` and the node that adds.
    fn clipped_shift(&self, value: ValueId) -> Option<(ValueId, usize)> {
        let clip = self.node(self.exclusive(value)?)?;
        let Op::Activation(Activation::Clip { min: 0.0, max: 6.0 }) = clip.op else {
            return None;
        };
        let shift = self.exclusive(clip.inputs[0])?;
        match self.node(shift)? {
            Node {
                op: Op::ChannelAffine { scale, bias },
                inputs,
                ..
            } if all(scale, 1.0) && all(bias, 3.0) => Some((inputs[0], shift)),
            _ => None,
        }
    }

    /// Per-channel constants join what stands before them.
    fn merge(&mut self, index: usize) -> bool {
        let Some((producer, node, norm)) = self.find_merge(index) else {
            return false;
        };
        if norm {
            self.nodes[index] = Some(node);
        } else {
            self.replace(index, &[producer], node);
        }
        true
    }

    /// The producer, the new node, and whether the producer stays.
    fn find_merge(&self, index: usize) -> Option<(usize, Node, bool)> {
        let node = self.node(index)?;
        let Op::ChannelAffine { scale, bias } = &node.op else {
            return None;
        };
        let producer = self.exclusive(node.inputs[0])?;
        let before = self.node(producer)?;
        let (name, op) = match &before.op {
            Op::ChannelAffine {
                scale: inner,
                bias: offset,
            } => (
                &node.name,
                Op::ChannelAffine {
                    scale: product(inner, scale),
                    bias: affine(offset, scale, bias),
                },
            ),
            Op::Dense { weight, bias: offset } => {
                let features = weight.shape()[1];
                let rows = weight.data().chunks_exact(features).zip(scale.data());
                let scaled: Vec<f32> = rows
                    .flat_map(|(row, &factor)| row.iter().map(move |&value| value * factor))
                    .collect();
                (
                    &before.name,
                    Op::Dense {
                        weight: Tensor::new(weight.shape(), scaled),
                        bias: affine(offset, scale, bias),
                    },
                )
            }
            Op::Conv(conv) if all(scale, 1.0) => {
                let bias = conv
                    .bias
                    .as_ref()
                    .map_or_else(|| bias.clone(), |own| affine(own, scale, bias));
                (
                    &before.name,
                    Op::Conv(Conv {
                        bias: Some(bias),
                        ..conv.clone()
                    }),
                )
            }
            Op::Conv(_) => {
                let channels = scale.data().len();
                let constant = |value: f32| Tensor::new([channels], vec![value; channels]);
                let norm = BatchNorm {
                    scale: scale.clone(),
                    bias: bias.clone(),
                    mean: constant(0.0),
                    variance: constant(1.0),
                    epsilon: 0.0,
                };
                return Some((
                    producer,
                    Node {
                        op: Op::BatchNorm(norm),
                        ..node.clone()
                    },
                    true,
                ));
            }
            _ => return None,
        };
        Some((
            producer,
            Node {
                name: name.clone(),
                op,
                inputs: before.inputs.clone(),
            },
            false,
        ))
    }

    /// Renumbers what the features need.
    fn finish(self) -> Graph {
        let mut needed = vec![false; self.nodes.len() + 1];
        needed[self.features.0] = true;
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if let (true, Some(node)) = (needed[index + 1], node) {
                node.inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        let mut places = vec![ValueId::IMAGE; needed.len()];
        let mut nodes = Vec::new();
        for (index, node) in self
            .nodes
            .into_iter()
            .enumerate()
            .filter(|&(index, _)| needed[index + 1])
        {
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

/// An offset of −0 is written as a Mul and an Add and comes back as +0: make it +0 at once.
fn normalised(node: Node) -> Node {
    match node.op {
        Op::ChannelAffine { scale, bias }
            if bias.data().iter().any(|value| value.to_bits() == (-0.0_f32).to_bits()) =>
        {
            let bias = Tensor::new(
                bias.shape(),
                bias.data().iter().map(|value| value + 0.0).collect::<Vec<_>>(),
            );
            Node {
                op: Op::ChannelAffine { scale, bias },
                ..node
            }
        }
        op => Node { op, ..node },
    }
}

fn near(value: f32, expected: f32) -> bool {
    (value - expected).abs() <= TOLERANCE
}

fn all(tensor: &Tensor, expected: f32) -> bool {
    tensor.data().iter().all(|&value| near(value, expected))
}

fn product(left: &Tensor, right: &Tensor) -> Tensor {
    let values: Vec<f32> = left.data().iter().zip(right.data()).map(|(&l, &r)| l * r).collect();
    Tensor::new(left.shape(), values)
}

/// `offset · scale + bias`, rounded once.
fn affine(offset: &Tensor, scale: &Tensor, bias: &Tensor) -> Tensor {
    let values = offset.data().iter().zip(scale.data()).zip(bias.data());
    let values: Vec<f32> = values
        .map(|((&o, &s), &b)| (f64::from(o) * f64::from(s) + f64::from(b)) as f32)
        .collect();
    Tensor::new(offset.shape(), values)
}
