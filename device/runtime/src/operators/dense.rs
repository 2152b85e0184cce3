//! Dense layers inside the backbone, such as those of squeeze-and-excitation.

use std::sync::Arc;

use clr_kernels::{dense, dense_gradient};
use clr_onnx::Tensor;

use super::{Backward, Context, Operator};

/// `weight [O, I] · x + bias [O]`.
#[derive(Debug)]
pub(super) struct Dense {
    weight: Arc<[f32]>,
    bias: Arc<[f32]>,
    context: Context,
}

impl Dense {
    pub(super) fn new(weight: &Tensor, bias: &Tensor, context: Context) -> Self {
        Self {
            weight: weight.shared(),
            bias: bias.shared(),
            context,
        }
    }
}

impl Operator for Dense {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let outputs = self.bias.len();
        let features = self.weight.len() / outputs.max(1);
        let (out, rest) = out.split_at_mut(outputs);
        dense(self.context.isa, &self.weight, &self.bias, &inputs[0][..features], out);
        rest.fill(0.0);
    }

    fn backward(&self, step: Backward<'_>) {
        if let Some(Some(dx)) = step.dx.first_mut() {
            let outputs = self.bias.len();
            let (dx, rest) = dx.split_at_mut(self.weight.len() / outputs.max(1));
            dense_gradient(self.context.isa, &self.weight, &step.dy[..outputs], dx);
            rest.fill(0.0);
        }
    }
}
