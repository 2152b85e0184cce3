//! Sums and products of two values; one may be `[C, 1, 1]`, broadcast over the other's map.

use clr_kernels::{Binary, Bounds, binary};
use clr_onnx::Shape;

use super::{Backward, Context, Operator, Reads, activation::Activate, blocked_len, plane};

/// The larger operand comes first in the kernels.
#[derive(Debug)]
struct Operands {
    plane: usize,
    swap: bool,
    broadcast: bool,
}

impl Operands {
    fn new([left, right]: [Shape; 2]) -> Self {
        let swap = blocked_len(left) < blocked_len(right);
        Self {
            plane: plane(if swap { right } else { left }),
            swap,
            broadcast: blocked_len(left) != blocked_len(right),
        }
    }

    fn run(&self, context: &Context, op: Binary, inputs: &[&[f32]], out: &mut [f32], bounds: Bounds) {
        let (left, right) = if self.swap {
            (inputs[1], inputs[0])
        } else {
            (inputs[0], inputs[1])
        };
        binary(context.level, op, left, right, self.plane, out, bounds);
    }
}

/// `activation(x + y)`.
#[derive(Debug)]
pub(super) struct Add {
    operands: Operands,
    activation: Activate,
    context: Context,
}

impl Add {
    pub(super) fn new(shapes: [Shape; 2], activation: Activate, context: Context) -> Self {
        Self {
            operands: Operands::new(shapes),
            activation,
            context,
        }
    }
}

impl Operator for Add {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.operands
            .run(&self.context, Binary::Add, inputs, out, self.activation.bounds);
        self.activation.smooth(&self.context, out);
    }

    fn reads(&self) -> Reads {
        self.activation.reads()
    }

    fn is_differentiable(&self) -> bool {
        self.activation.is_clamp() && !self.operands.broadcast
    }

    fn backward(&self, mut step: Backward<'_>) {
        self.activation.clamp_backward(&self.context, step.output, step.dy);
        step.pass_on();
    }
}

/// `x · y`.
#[derive(Debug)]
pub(super) struct Mul {
    operands: Operands,
    context: Context,
}

impl Mul {
    pub(super) fn new(shapes: [Shape; 2], context: Context) -> Self {
        Self {
            operands: Operands::new(shapes),
            context,
        }
    }
}

impl Operator for Mul {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.operands.run(&self.context, Binary::Mul, inputs, out, Bounds::NONE);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn backward(&self, _step: Backward<'_>) {}
}
