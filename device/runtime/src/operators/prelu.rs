//! Leaky rectifier with a slope per channel.

use std::sync::Arc;

use clr_kernels::{block_channels, prelu, prelu_gradient};

use super::{Backward, Context, Operator, Reads};

/// `x if x ≥ 0 else slope · x` (ONNX `PRelu`).
#[derive(Debug)]
pub(super) struct PRelu {
    slope: Arc<[f32]>,
    plane: usize,
    context: Context,
}

impl PRelu {
    /// `slope` `[C]` on planes of `plane` values.
    pub(super) fn new(slope: &[f32], plane: usize, context: Context) -> Self {
        Self {
            slope: block_channels(slope, 0.0).into(),
            plane,
            context,
        }
    }
}

impl Operator for PRelu {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        prelu(self.context.isa, inputs[0], &self.slope, self.plane, out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        prelu_gradient(self.context.isa, step.inputs[0], &self.slope, self.plane, step.dy);
        step.pass_on();
    }
}
