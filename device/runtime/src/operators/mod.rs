//! Operators other than convolutions: forward pass, backward pass, and the values that the backward pass reads.

pub(crate) mod activation;
mod affine;
mod binary;
mod channels;
mod dense;
mod layout;
mod normalisation;
#[cfg(feature = "opaque")]
mod opaque;
mod pixels;
mod pool;
mod prelu;
mod rounded;

use std::{fmt::Debug, sync::Arc};

use clr_kernels::{Arena, Isa, LANES, PixelMap};
use clr_onnx::{Op, Padding, Pool, Quantisation, Shape, StepOp, Tensor};

use crate::RuntimeError;

pub(crate) use layout::Block;
use normalisation::{Kind, Normalisation};
pub(crate) use pool::pool_shape;

/// Instruction set, workspace and threads with which an operator runs.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The instruction set.
    pub(crate) isa: Isa,
    /// Number of threads in the pool that runs a step; 1 means the caller's own thread.
    pub(crate) threads: usize,
    /// Working memory of the kernels.
    pub(crate) arena: Arc<Arena>,
}

/// An operation on values in blocks.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Computes all of `out`.
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]);

    /// Returns which values [`Operator::backward`] reads.
    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    /// Returns whether there is a backward pass. Sites before an operator without one cannot be trained.
    fn is_differentiable(&self) -> bool {
        true
    }

    /// Computes every needed gradient of an input completely. Never called if there is no backward pass.
    fn backward(&self, step: Backward<'_>);
}

/// Values of the forward pass that a backward pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) inputs: bool,
    pub(crate) output: bool,
}

impl Reads {
    pub(crate) const NOTHING: Self = Self {
        inputs: false,
        output: false,
    };
    pub(crate) const INPUTS: Self = Self {
        inputs: true,
        output: false,
    };
    pub(crate) const OUTPUT: Self = Self {
        inputs: false,
        output: true,
    };
}

/// The operands of a backward pass.
pub(crate) struct Backward<'a> {
    /// The inputs; empty if [`Operator::reads`] does not include them.
    pub(crate) inputs: &'a [&'a [f32]],
    /// The output; empty if [`Operator::reads`] does not include it.
    pub(crate) output: &'a [f32],
    /// The output's gradient, which may be overwritten.
    pub(crate) dy: &'a mut [f32],
    /// The gradient of each input, if it is needed. The initial content is unspecified.
    pub(crate) dx: &'a mut [Option<&'a mut [f32]>],
}

impl Backward<'_> {
    /// Copies the output's gradient to every needed input gradient of the same length.
    pub(crate) fn pass_on(&mut self) {
        for dx in self.dx.iter_mut().flatten() {
            dx.copy_from_slice(self.dy);
        }
    }
}

/// Creates the operator of a step other than a convolution, from the shapes of its inputs and its output.
pub(crate) fn prepare(
    name: &str,
    op: &StepOp,
    grid: Option<Quantisation>,
    inputs: &[Shape],
    output: Shape,
    context: &Context,
) -> Result<Box<dyn Operator>, RuntimeError> {
    let unsupported = |reason: String| RuntimeError::unsupported(name, reason);
    let context = context.clone();
    let normalisation = |kind, scale: &Tensor, bias: &Tensor, epsilon| -> Box<dyn Operator> {
        let (scale, bias) = (scale.data(), bias.data());
        let (plane, context) = (plane(output), context.clone());
        Box::new(Normalisation::new(kind, scale, bias, epsilon, plane, context))
    };
    let rounding = context.clone();
    let operator: Box<dyn Operator> = match op {
        StepOp::Affine {
            scale,
            bias,
            activation,
        } => {
            let activation =
                activation::Activate::of(*activation).ok_or_else(|| unsupported(no_activation(*activation)))?;
            let activation = activation.rounded(grid);
            return Ok(Box::new(affine::Affine::new(
                scale,
                bias,
                plane(output),
                activation,
                context,
            )));
        }
        StepOp::Add { activation } => {
            let activation =
                activation::Activate::of(*activation).ok_or_else(|| unsupported(no_activation(*activation)))?;
            let activation = activation.rounded(grid);
            return Ok(Box::new(binary::Add::new([inputs[0], inputs[1]], activation, context)));
        }
        StepOp::Gather { index } => Box::new(channels::Gather::new(index, inputs, plane(output) / LANES)),
        StepOp::Node(op) => match op {
            Op::Activation(kind) => {
                let activation =
                    activation::Activate::of(Some(*kind)).ok_or_else(|| unsupported(no_activation(Some(*kind))))?;
                let activation = activation.rounded(grid);
                return Ok(Box::new(activation::Activation::new(activation, context)));
            }
            Op::FakeQuantise(grid) => {
                let activation = activation::Activate::NONE.rounded(Some(*grid));
                Box::new(activation::Activation::new(activation, context))
            }
            Op::PRelu { slope } => Box::new(prelu::PRelu::new(slope.data(), plane(output), context)),
            Op::Mul => Box::new(binary::Mul::new([inputs[0], inputs[1]], context)),
            Op::ChannelConv { kernel, bias, pads } => Box::new(channels::ChannelConv::new(
                kernel.data(),
                *bias,
                *pads,
                inputs[0].channels(),
            )),
            Op::Softmax { groups } => Box::new(channels::Softmax::new(*groups, inputs[0].channels(), context)),
            Op::LayerNorm { scale, bias, epsilon } => normalisation(Kind::Layer, scale, bias, *epsilon),
            Op::GroupNorm {
                groups,
                scale,
                bias,
                epsilon,
            } => normalisation(Kind::Group(*groups), scale, bias, *epsilon),
            Op::GlobalResponseNorm { scale, bias, epsilon } => normalisation(Kind::Response, scale, bias, *epsilon),
            Op::MaxPool(window) => Box::new(pool::Pooling::max(window, inputs[0], output, context)),
            Op::AveragePool(window) => Box::new(pool::Pooling::average(window, inputs[0], output, context)),
            Op::GlobalAveragePool => Box::new(pool::GlobalAverage::new(plane(inputs[0]), context)),
            Op::Pad { pads, mode } => Box::new(pixels::Pixels::new(
                PixelMap::pad(size(inputs[0]), *pads, *mode),
                context,
            )),
            &Op::Crop {
                start,
                size: part,
                step,
            } => Box::new(pixels::Pixels::new(
                PixelMap::crop(size(inputs[0]), start, part, step),
                context,
            )),
            Op::Resize(resize) => Box::new(pixels::Pixels::new(PixelMap::resize(size(inputs[0]), resize), context)),
            Op::Flatten | Op::Unflatten if plane(inputs[0]) == LANES => Box::new(layout::Reshape),
            Op::Flatten => Box::new(layout::Flatten::new(inputs[0])),
            Op::Dense { weight, bias } => Box::new(dense::Dense::new(weight, bias, context)),
            #[cfg(feature = "opaque")]
            Op::Opaque(opaque) => Box::new(opaque::OpaqueStep::new(name, opaque, inputs, output)?),
            #[cfg(not(feature = "opaque"))]
            Op::Opaque(opaque) => {
                let operators: Vec<&str> = opaque.operators().collect();
                return Err(unsupported(format!(
                    "{} needs a build with the feature `opaque`",
                    operators.join(", ")
                )));
            }
            other => return Err(unsupported(format!("the runtime has no {}", other.name()))),
        },
        _ => return Err(unsupported("the runtime does not know this step".to_owned())),
    };
    Ok(match grid {
        Some(grid) => Box::new(rounded::Rounded::new(operator, grid, rounding)),
        None => operator,
    })
}

fn no_activation(activation: Option<clr_onnx::Activation>) -> String {
    format!(
        "the runtime has no {}",
        activation.map_or("activation", clr_onnx::Activation::name)
    )
}

/// Returns rows and columns; a vector is a map of one pixel.
pub(crate) fn size(shape: Shape) -> [usize; 2] {
    shape.spatial().unwrap_or([1, 1])
}

/// Returns the number of values of one block's plane.
pub(crate) fn plane(shape: Shape) -> usize {
    let [height, width] = size(shape);
    height * width * LANES
}

/// Values of a value in blocks.
pub(crate) fn blocked_len(shape: Shape) -> usize {
    shape.channels().div_ceil(LANES) * plane(shape)
}

/// Returns the padding of a pooling window on an input of `size` (rows, columns): top, left, bottom, right.
fn resolved(window: &Pool, size: [usize; 2]) -> [usize; 4] {
    Padding::resolve(window.padding, size, window.kernel, window.stride, [1, 1])
}
