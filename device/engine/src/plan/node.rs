//! The nodes that stand alone: everything that no fused convolution has taken in.

use clr_onnx::{Node, Op, PadMode, Padding, Pool, Shape, ValueId};

use super::{
    compile::{Compiler, Obstacle, activation, blocked},
    frozen::norm_affine,
    step::Work,
};
use clr_kernels::{Binary, Bounds, LANES, PoolKind, PoolShape, block_channels, pack_parameters};

impl Compiler<'_> {
    pub(super) fn node(&mut self, index: usize, node: &Node) -> Result<(), Obstacle> {
        let shape = self.shapes[index + 1];
        let inputs = node
            .inputs
            .iter()
            .map(|&id| self.value(id))
            .collect::<Result<Vec<_>, _>>()?;
        let plane = |shape: Shape| shape.spatial().map_or(LANES, |[h, w]| h * w * LANES);
        let unsupported = |reason: String| Obstacle::Unsupported {
            node: node.name.clone(),
            reason,
        };
        let flat = |shape: Shape| shape.spatial().is_none();
        // Per-channel operations on a vector would need a second form of every kernel; graphs have them on maps.
        let on_map = || {
            if flat(shape) {
                Err(unsupported(format!("{} on a vector", node.op.name())))
            } else {
                Ok(())
            }
        };
        let work = match &node.op {
            Op::Conv(_) => return Err(unsupported("a convolution that is no site".into())),
            Op::BatchNorm(norm) => {
                on_map()?;
                let (scale, bias) = norm_affine(norm);
                Work::Affine {
                    parameters: pack_parameters(&scale, &bias).into(),
                    plane: plane(shape),
                    bounds: Bounds::NONE,
                }
            }
            Op::ChannelAffine { scale, bias } => {
                on_map()?;
                let parameters = pack_parameters(scale.data(), bias.data()).into();
                Work::Affine {
                    parameters,
                    plane: plane(shape),
                    bounds: Bounds::NONE,
                }
            }
            Op::PRelu { slope } => {
                on_map()?;
                Work::PRelu {
                    slope: block_channels(slope.data(), 0.0).into(),
                    plane: plane(shape),
                }
            }
            &Op::Activation(kind) => {
                let (bounds, smooth) = activation(Some(kind), &node.name)?;
                Work::Activation { bounds, smooth }
            }
            Op::Add | Op::Mul => {
                let op = if matches!(node.op, Op::Add) {
                    Binary::Add
                } else {
                    Binary::Mul
                };
                let [left, right] = [self.shapes[node.inputs[0].0], self.shapes[node.inputs[1].0]];
                if left.channels() != right.channels() {
                    return Err(unsupported(format!(
                        "the engine has no {} of {left} and {right}",
                        node.op.name()
                    )));
                }
                let swap = left.elements() < right.elements();
                Work::Binary {
                    op,
                    plane: plane(shape),
                    swap,
                    bounds: Bounds::NONE,
                }
            }
            Op::Concat => {
                on_map()?;
                let channels = node.inputs.iter().map(|id| self.shapes[id.0].channels()).collect();
                Work::Concat {
                    channels,
                    pixels: plane(shape) / LANES,
                }
            }
            Op::MaxPool(window) => self.pool(node, index, window, PoolKind::Max)?,
            Op::AveragePool(window) => self.pool(
                node,
                index,
                window,
                PoolKind::Average {
                    include_pad: window.count_include_pad,
                },
            )?,
            Op::GlobalAveragePool => Work::GlobalAverage {
                plane: plane(self.shapes[node.inputs[0].0]),
            },
            &Op::Pad {
                pads,
                mode: PadMode::Constant(value),
            } => Work::Pad {
                size: self.map(node.inputs[0], &node.name)?,
                pads,
                value,
            },
            Op::Flatten => {
                let from = self.shapes[node.inputs[0].0];
                if flat(from) {
                    self.values[index + 1] = Some(inputs[0]);
                    return Ok(());
                }
                Work::Flatten {
                    channels: from.channels(),
                }
            }
            Op::Unflatten => Work::Unflatten,
            Op::Dense { weight, bias } => Work::Dense {
                weight: weight.shared(),
                bias: bias.shared(),
            },
            other => return Err(unsupported(format!("the engine has no {}", other.name()))),
        };
        let outlet = self.push(&node.name, work, blocked(shape), &inputs)?;
        self.values[index + 1] = Some(outlet);
        Ok(())
    }

    fn pool(&self, node: &Node, index: usize, window: &Pool, kind: PoolKind) -> Result<Work, Obstacle> {
        let input = self.map(node.inputs[0], &node.name)?;
        Ok(Work::Pool(PoolShape {
            kind,
            input,
            output: self.map(ValueId::of_node(index), &node.name)?,
            kernel: window.kernel,
            stride: window.stride,
            pads: Padding::resolve(window.padding, input, window.kernel, window.stride, [1, 1]),
        }))
    }
}
