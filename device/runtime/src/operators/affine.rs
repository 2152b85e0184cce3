//! Scale and bias per channel.

use std::sync::Arc;

use clr_kernels::{affine, affine_gradient, pack_parameters};

use super::{Backward, Context, Operator, Reads, activation::Activate};

/// `activation(x · scale + bias)`.
#[derive(Debug)]
pub(super) struct Affine {
    parameters: Arc<[f32]>,
    plane: usize,
    activation: Activate,
    context: Context,
}

impl Affine {
    /// `scale` and `bias` `[C]` on planes of `plane` values.
    pub(super) fn new(scale: &[f32], bias: &[f32], plane: usize, activation: Activate, context: Context) -> Self {
        Self {
            parameters: pack_parameters(scale, bias).into(),
            plane,
            activation,
            context,
        }
    }
}

impl Operator for Affine {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        affine(
            self.context.level,
            inputs[0],
            &self.parameters,
            self.plane,
            out,
            self.activation.bounds,
        );
        self.activation.smooth(&self.context, out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn is_differentiable(&self) -> bool {
        self.activation.is_clamp()
    }

    fn backward(&self, mut step: Backward<'_>) {
        let bounds = self.activation.bounds;
        let (x, parameters) = (step.inputs[0], &self.parameters);
        affine_gradient(self.context.level, x, parameters, self.plane, step.dy, None, bounds);
        step.pass_on();
    }
}
