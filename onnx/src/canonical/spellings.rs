//! Activations that exporters write as arithmetic nodes.

use super::{Work, all, near};
use crate::{
    Tensor,
    graph::{Activation, Node, Op, ValueId},
};

const SIXTH: f32 = 1.0 / 6.0;

impl Work {
    /// Replaces the nodes of such an activation by a single node.
    pub(super) fn activation(&mut self, index: usize) -> bool {
        self.split_shift(index);
        let Some((name, absorbed, op, input)) = self.find_activation(index) else {
            return false;
        };
        let activation = |name| Node {
            name,
            op: Op::Activation(op),
            inputs: vec![input],
        };
        let Some(offset) = self.offset(index) else {
            self.replace(index, &absorbed, activation(name));
            return true;
        };
        // In a file, the factor is a node with this name and the offset another node. Reading the file must give the
        // same two nodes.
        self.replace(absorbed[0], &absorbed[1..], activation(format!("{name}.mul")));
        self.replace(index, &[], offset);
        true
    }

    /// If the shift by 3 of a `HardSigmoid` that ends at `index` also has a factor, gives the factor its own node. In a
    /// file they are two nodes, and only the second belongs to the activation.
    fn split_shift(&mut self, index: usize) {
        let Some(Node {
            op: Op::ChannelAffine { scale, .. },
            inputs,
            ..
        }) = self.node(index)
        else {
            return;
        };
        if !all(scale, SIXTH) {
            return;
        }
        let Some(clip) = self.exclusive(inputs[0]) else { return };
        let Some(Node {
            op: Op::Activation(Activation::Clip { min: 0.0, max: 6.0 }),
            inputs: clipped,
            ..
        }) = self.node(clip)
        else {
            return;
        };
        let Some(shift) = self.exclusive(clipped[0]) else {
            return;
        };
        let Some(Node {
            name,
            op: Op::ChannelAffine { scale, bias },
            inputs: shifted,
        }) = self.node(shift)
        else {
            return;
        };
        if all(scale, 1.0) || !all(bias, 3.0) {
            return;
        }
        let channels = scale.data().len();
        let constant = |value: f32| Tensor::new(scale.shape(), vec![value; channels]);
        let factor = Node {
            name: format!("{name}.mul"),
            op: Op::ChannelAffine {
                scale: scale.clone(),
                bias: constant(0.0),
            },
            inputs: shifted.clone(),
        };
        let (alpha, beta) = (SIXTH, 0.5);
        let last = Node {
            name: self.node(index).map(|node| node.name.clone()).unwrap_or_default(),
            op: Op::Activation(Activation::HardSigmoid { alpha, beta }),
            inputs: vec![ValueId::of_node(shift)],
        };
        let Some(offset) = self.offset(index) else {
            self.replace(shift, &[], factor);
            self.replace(index, &[clip], last);
            return;
        };
        let name = format!("{}.mul", last.name);
        self.replace(shift, &[], factor);
        self.replace(clip, &[], Node { name, ..last });
        self.replace(index, &[], offset);
    }

    /// Returns the rest of an affine operation after its factor became part of an activation; `None` if nothing is
    /// left.
    fn offset(&self, index: usize) -> Option<Node> {
        let node = self.node(index)?;
        let Op::ChannelAffine { bias, .. } = &node.op else {
            return None;
        };
        bias.data().iter().any(|&value| value != 0.0).then(|| Node {
            name: node.name.clone(),
            op: Op::ChannelAffine {
                scale: Tensor::new(bias.shape(), vec![1.0; bias.data().len()]),
                bias: bias.clone(),
            },
            inputs: node.inputs.clone(),
        })
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
            (Op::ChannelAffine { scale, .. }, &[input]) if all(scale, SIXTH) => {
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

    /// For `value = clip(x + 3, 0, 6)`, returns `x` and the index of the addition.
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
}
