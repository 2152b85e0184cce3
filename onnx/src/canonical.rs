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
        // Constants join one another first, so that a Mul and an Add behind a convolution meet it as one.
        if !work.sweep(Work::join) && !work.sweep(Work::join_convolution) {
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
    /// Without the nodes that the features do not need: they must not count as readers.
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

    /// Per-channel constants join a dense layer or other constants in front of them.
    fn join(&mut self, index: usize) -> bool {
        self.absorb(index, |before, scale, bias, name| match &before.op {
            Op::ChannelAffine {
                scale: inner,
                bias: offset,
            } => {
                let op = Op::ChannelAffine {
                    scale: product(inner, scale),
                    bias: affine(offset, scale, bias),
                };
                Some((name.to_owned(), op))
            }
            Op::Dense { weight, bias: offset } => {
                let rows = weight.data().chunks_exact(weight.shape()[1]).zip(scale.data());
                let scaled: Vec<f32> = rows
                    .flat_map(|(row, &factor)| row.iter().map(move |&value| value * factor))
                    .collect();
                let op = Op::Dense {
                    weight: Tensor::new(weight.shape(), scaled),
                    bias: affine(offset, scale, bias),
                };
                Some((before.name.clone(), op))
            }
            _ => None,
        })
    }

    /// Per-channel constants behind a convolution become its bias or its norm.
    fn join_convolution(&mut self, index: usize) -> bool {
        let joined = self.absorb(index, |before, scale, bias, _| match &before.op {
            Op::Conv(conv) if all(scale, 1.0) => {
                let bias = conv
                    .bias
                    .as_ref()
                    .map_or_else(|| bias.clone(), |own| affine(own, scale, bias));
                Some((
                    before.name.clone(),
                    Op::Conv(Conv {
                        bias: Some(bias),
                        ..conv.clone()
                    }),
                ))
            }
            _ => None,
        });
        joined || self.norm(index)
    }

    /// Replaces constants and what stands before them by what `rule` makes of both, if anything.
    fn absorb(&mut self, index: usize, rule: impl Fn(&Node, &Tensor, &Tensor, &str) -> Option<(String, Op)>) -> bool {
        let replacement = self.constants(index).and_then(|(producer, name, scale, bias)| {
            let before = self.node(producer)?;
            let (name, op) = rule(before, scale, bias, name)?;
            Some((
                producer,
                Node {
                    name,
                    op,
                    inputs: before.inputs.clone(),
                },
            ))
        });
        let Some((producer, node)) = replacement else {
            return false;
        };
        self.replace(index, &[producer], node);
        true
    }

    /// Turns constants behind a convolution into a norm.
    fn norm(&mut self, index: usize) -> bool {
        let norm = self.constants(index).and_then(|(producer, _, scale, bias)| {
            matches!(self.node(producer)?.op, Op::Conv(_)).then_some(())?;
            let constant = |value: f32| Tensor::new(scale.shape(), vec![value; scale.data().len()]);
            let (mean, variance) = (constant(0.0), constant(1.0));
            Some(BatchNorm {
                scale: scale.clone(),
                bias: bias.clone(),
                mean,
                variance,
                epsilon: 0.0,
            })
        });
        match (norm, &mut self.nodes[index]) {
            (Some(norm), Some(node)) => {
                node.op = Op::BatchNorm(norm);
                true
            }
            _ => false,
        }
    }

    /// If node `index` multiplies and adds constants to what nobody else reads: the producer, its own name, scale and bias.
    fn constants(&self, index: usize) -> Option<(usize, &str, &Tensor, &Tensor)> {
        let node = self.node(index)?;
        let Op::ChannelAffine { scale, bias } = &node.op else {
            return None;
        };
        Some((self.exclusive(node.inputs[0])?, &node.name, scale, bias))
    }

    /// Renumbers what is left.
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
