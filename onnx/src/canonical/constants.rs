//! Merging of per-channel constants into the preceding node.

use super::{Work, all};
use crate::{
    Tensor,
    graph::{BatchNorm, Conv, Node, Op},
};

impl Work {
    /// Merges per-channel constants into a preceding dense layer, layer norm, group norm, or other constants.
    pub(super) fn join(&mut self, index: usize) -> bool {
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
            Op::LayerNorm {
                scale: inner,
                bias: offset,
                epsilon,
            } => {
                let op = Op::LayerNorm {
                    scale: product(inner, scale),
                    bias: affine(offset, scale, bias),
                    epsilon: *epsilon,
                };
                Some((before.name.clone(), op))
            }
            Op::GroupNorm {
                groups,
                scale: inner,
                bias: offset,
                epsilon,
            } => {
                let op = Op::GroupNorm {
                    groups: *groups,
                    scale: product(inner, scale),
                    bias: affine(offset, scale, bias),
                    epsilon: *epsilon,
                };
                Some((before.name.clone(), op))
            }
            _ => None,
        })
    }

    /// Merges per-channel constants after a convolution into its bias, or turns them into its norm.
    pub(super) fn join_convolution(&mut self, index: usize) -> bool {
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

    /// Replaces constants and the preceding node by the node that `rule` makes of both, if any.
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

    /// Turns constants after a convolution into a norm.
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

    /// If node `index` multiplies and adds constants to a value that no other node reads, returns the producer of the
    /// value, and the node's name, scale and bias.
    fn constants(&self, index: usize) -> Option<(usize, &str, &Tensor, &Tensor)> {
        let node = self.node(index)?;
        let Op::ChannelAffine { scale, bias } = &node.op else {
            return None;
        };
        Some((self.exclusive(node.inputs[0])?, &node.name, scale, bias))
    }
}

fn product(left: &Tensor, right: &Tensor) -> Tensor {
    let values: Vec<f32> = left.data().iter().zip(right.data()).map(|(&l, &r)| l * r).collect();
    Tensor::new(left.shape(), values)
}

/// Returns `offset · scale + bias`, rounded once.
fn affine(offset: &Tensor, scale: &Tensor, bias: &Tensor) -> Tensor {
    let values = offset.data().iter().zip(scale.data()).zip(bias.data());
    let values: Vec<f32> = values
        .map(|((&o, &s), &b)| (f64::from(o) * f64::from(s) + f64::from(b)) as f32)
        .collect();
    Tensor::new(offset.shape(), values)
}
