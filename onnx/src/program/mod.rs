//! The backbone lowered to fused steps for one input size.
//!
//! A [`Program`] contains everything that an executor needs, and nothing that depends on a particular executor. A step
//! may combine a convolution with the norm, shortcut and activation that follow it. Norms are folded, paddings are
//! resolved, and shapes and the last use of every value are known. The engine, the learner and the memory estimate use
//! the same program.

mod block_outputs;
mod fuse;
mod lower;
mod norm;
mod simplify;
#[cfg(all(test, feature = "import"))]
mod tests;

use std::sync::Arc;

use crate::{Activation, Conv, OnnxError, Op, Quantisation, Shape, ValueId, backbone::Backbone};

/// A backbone's computation for images of one size, as a list of fused steps.
#[derive(Clone, Debug)]
pub struct Program {
    /// Steps in execution order.
    pub steps: Vec<Step>,
    /// The shape of every value, without the batch, by [`ValueId`]. Values that no step computes, such as a folded
    /// norm, keep the shape that they have in the graph.
    pub shapes: Vec<Shape>,
    /// The features `[F]`.
    pub features: ValueId,
    /// Number of CLR sites of the backbone.
    pub sites: usize,
}

/// A step: an operation with everything that was fused into it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The name of its first node. For a convolution this is also the site's name.
    pub name: String,
    /// The operation.
    pub op: StepOp,
    /// The values that the step reads. A convolution's shortcut is the second one.
    pub inputs: Vec<ValueId>,
    /// The value that the step computes.
    pub output: ValueId,
    /// Values that the step reads and no later step reads.
    pub last_uses: Vec<ValueId>,
    /// The grid to which the result is rounded last, if there is one.
    pub grid: Option<Quantisation>,
}

/// The operation of a step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StepOp {
    /// A convolution with its epilogue.
    Conv(Box<ConvStep>),
    /// `activation(x · scale + bias)` per channel: a norm or affine map that does not follow a convolution.
    Affine {
        /// `[C]`.
        scale: Vec<f32>,
        /// `[C]`.
        bias: Vec<f32>,
        /// The activation that is applied to the result, if any.
        activation: Option<Activation>,
    },
    /// `activation(x + y)`. One operand may be `[C, 1, 1]`, which is broadcast over the map.
    Add {
        /// The activation that is applied to the sum, if any.
        activation: Option<Activation>,
    },
    /// Channel `c` of the result is channel `index[c]` of the concatenated inputs. It covers Concat, Split, Slice,
    /// channel shuffle, and combinations of these.
    Gather {
        /// `[C]`.
        index: Arc<[u32]>,
    },
    /// Any other operator, unchanged from the graph.
    Node(Op),
}

/// A convolution with its fused post-operations: `round(activation(round(epilogue(conv(x))) + shortcut))`, with the roundings of a
/// quantised backbone.
///
/// The convolution itself has no bias. The epilogue is either the backbone's own ([`ConvStep::scale`] and
/// [`ConvStep::bias`]) or the adapter's at this site (CLR, ICCV 2023, section 3.2, with the norm folded in).
#[derive(Clone, Debug)]
pub struct ConvStep {
    /// Index of the site among the backbone's.
    pub site: usize,
    /// The convolution. Its bias, if any, is part of [`ConvStep::bias`].
    pub conv: Conv,
    /// Top, left, bottom, right, in pixels.
    pub pads: [usize; 4],
    /// The frozen norm's scale `[C]`.
    pub scale: Vec<f32>,
    /// The frozen norm's bias `[C]`.
    pub bias: Vec<f32>,
    /// Whether a shortcut is added to the epilogue's result.
    pub shortcut: bool,
    /// The activation that is applied last, if any.
    pub activation: Option<Activation>,
    /// The grid to which the epilogue's result is rounded before the shortcut is added, if there is one.
    pub inner: Option<Quantisation>,
}

impl Program {
    /// Lowers `backbone` for images of `size` (rows, columns).
    ///
    /// # Errors
    /// [`OnnxError`] if the graph does not fit this size.
    pub fn lower(backbone: &Backbone, size: [usize; 2]) -> Result<Self, OnnxError> {
        lower::lower(backbone, size)
    }

    /// Lowers `backbone` with one step for each node, so that every value is computed. Norms after convolutions are still
    /// part of them.
    ///
    /// # Errors
    /// [`OnnxError`] if the graph does not fit this size.
    pub fn unfused(backbone: &Backbone, size: [usize; 2]) -> Result<Self, OnnxError> {
        lower::unfused(backbone, size)
    }

    /// Returns the number of features.
    pub fn feature_count(&self) -> usize {
        self.shapes[self.features.0].elements()
    }

    /// Returns channels, rows and columns of the image.
    pub fn image(&self) -> [usize; 3] {
        match self.shapes[ValueId::IMAGE.0] {
            Shape::Map(map) => map,
            Shape::Vector(length) => [length, 1, 1],
        }
    }
}
