//! An operator whose result is rounded to a grid.

use clr_onnx::Quantisation;

use super::{Backward, Context, Operator, Reads, activation::round};

/// Another operator, followed by rounding. The gradient of the rounding is 1 (the straight-through estimator).
#[derive(Debug)]
pub(super) struct Rounded {
    operator: Box<dyn Operator>,
    grid: Quantisation,
    context: Context,
}

impl Rounded {
    pub(super) fn new(operator: Box<dyn Operator>, grid: Quantisation, context: Context) -> Self {
        Self {
            operator,
            grid,
            context,
        }
    }
}

impl Operator for Rounded {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.operator.forward(inputs, out);
        round(&self.context, Some(self.grid), out);
    }

    fn reads(&self) -> Reads {
        self.operator.reads()
    }

    fn is_differentiable(&self) -> bool {
        self.operator.is_differentiable()
    }

    fn backward(&self, step: Backward<'_>) {
        self.operator.backward(step);
    }
}
