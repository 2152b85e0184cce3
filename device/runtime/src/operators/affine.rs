//! Per-channel scale and bias.

use std::sync::Arc;

use clr_kernels::{Bounds, affine, affine_gradient, pack_parameters};

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
    /// Creates it from `scale` and `bias` `[C]`, for planes of `plane` values.
    pub(super) fn new(scale: &[f32], bias: &[f32], plane: usize, activation: Activate, context: Context) -> Self {
        Self {
            parameters: pack_parameters(scale, bias).into(),
            plane,
            activation,
            context,
        }
    }

    fn affine(&self, x: &[f32], out: &mut [f32], bounds: Bounds) {
        affine(self.context.isa, x, &self.parameters, self.plane, out, bounds);
    }
}

impl Operator for Affine {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.affine(inputs[0], out, self.activation.bounds);
        self.activation.finish(&self.context, out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        let x = step.inputs[0];
        if self.activation.smooth.is_some() {
            self.context.arena.lend(x.len(), |before| {
                self.affine(x, before, Bounds::NONE);
                self.activation.smooth_backward(&self.context, before, step.dy);
            });
        }
        let (isa, bounds) = (self.context.isa, self.activation.bounds);
        affine_gradient(isa, x, &self.parameters, self.plane, step.dy, None, bounds);
        step.pass_on();
    }
}
