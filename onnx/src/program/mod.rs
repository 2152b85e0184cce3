//! The backbone lowered to fused steps for one input size.
//!
//! A [`Program`] is everything that an executor needs and nothing that depends on it: a convolution together with the norm, the
//! shortcut and the activation that follow it, folded norms, resolved paddings, shapes, and the last use of every value. The engine,
//! the learner and the memory estimate walk the same program.

mod fuse;
mod lower;
mod norm;
mod simplify;
#[cfg(all(test, feature = "import"))]
mod tests;

use std::sync::Arc;

use crate::{Activation, Conv, OnnxError, Op, Shape, ValueId, backbone::Backbone};

/// A backbone's computation for images of one size, as a list of fused steps.
#[derive(Clone, Debug)]
pub struct Program {
    /// In execution order.
    pub steps: Vec<Step>,
    /// The shape of every value, without the batch, by [`ValueId`]. Values that no step computes (a norm that was folded) keep the
    /// shape that the graph gives them.
    pub shapes: Vec<Shape>,
    /// The features `[F]`.
    pub features: ValueId,
    /// Number of CLR sites of the backbone.
    pub sites: usize,
}

/// One step: an operation with everything that was fused into it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The name of the node that it starts with; of a convolution, the site's.
    pub name: String,
    /// The operation.
    pub op: StepOp,
    /// The values that it reads. A convolution's shortcut is its second.
    pub inputs: Vec<ValueId>,
    /// The value that it computes.
    pub output: ValueId,
    /// Values that no later step reads.
    pub last_uses: Vec<ValueId>,
}

/// The operation of a step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StepOp {
    /// A convolution with its epilogue.
    Conv(Box<ConvStep>),
    /// `activation(x · scale + bias)` per channel: a norm or affine map that follows no convolution.
    Affine {
        /// `[C]`.
        scale: Vec<f32>,
        /// `[C]`.
        bias: Vec<f32>,
        /// Applied to the result.
        activation: Option<Activation>,
    },
    /// `activation(x + y)`; one operand may be `[C, 1, 1]`, broadcast over the map.
    Add {
        /// Applied to the sum.
        activation: Option<Activation>,
    },
    /// Channel `c` of the result is channel `index[c]` of the inputs, one after another: Concat, Split, Slice, channel shuffle, and
    /// what stood between them.
    Gather {
        /// `[C]`.
        index: Arc<[u32]>,
    },
    /// Any other operator, as it is in the graph.
    Node(Op),
}

/// A convolution and what follows it: `activation(epilogue(conv(x)) + shortcut)`.
///
/// The convolution itself has no bias. The epilogue is either the backbone's own ([`ConvStep::scale`] and [`ConvStep::bias`]) or the
/// adapter's at this site (CLR, ICCV 2023, section 3.2, with the norm folded in).
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
    /// Applied last.
    pub activation: Option<Activation>,
}

impl Program {
    /// Lowers `backbone` for images of `size` (rows, columns).
    ///
    /// # Errors
    /// [`OnnxError`] if the graph has no shapes at this size.
    pub fn lower(backbone: &Backbone, size: [usize; 2]) -> Result<Self, OnnxError> {
        lower::lower(backbone, size)
    }

    /// Returns the number of features.
    pub fn feature_count(&self) -> usize {
        self.shapes[self.features.0].elements()
    }

    /// Channels, rows and columns of the image.
    pub fn image(&self) -> [usize; 3] {
        match self.shapes[ValueId::IMAGE.0] {
            Shape::Map(map) => map,
            Shape::Vector(length) => [length, 1, 1],
        }
    }
}
