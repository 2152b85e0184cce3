//! Sums and products of two values. One may be `[C, 1, 1]` or `[1, H, W]`, broadcast over the other.

use clr_kernels::{Binary, Bounds, Broadcast, binary_gradient, broadcast_binary};
use clr_onnx::Shape;

use super::{Backward, Context, Operator, Reads, activation::Activate, plane};

/// Operands of a sum or product. The kernels take the broadcast operand as the second one.
#[derive(Debug)]
struct Operands {
    op: Binary,
    broadcast: Broadcast,
    channels: usize,
    plane: usize,
    swap: bool,
    context: Context,
}

impl Operands {
    fn new(op: Binary, [left, right]: [Shape; 2], context: Context) -> Self {
        let swap = left.elements() < right.elements();
        let (larger, smaller) = if swap { (right, left) } else { (left, right) };
        let broadcast = if larger.elements() == smaller.elements() {
            Broadcast::None
        } else if smaller.channels() == larger.channels() {
            Broadcast::Channels
        } else {
            Broadcast::Pixels
        };
        Self {
            op,
            broadcast,
            channels: larger.channels(),
            plane: plane(larger),
            swap,
            context,
        }
    }

    fn order<T>(&self, [left, right]: [T; 2]) -> [T; 2] {
        if self.swap { [right, left] } else { [left, right] }
    }

    fn run(&self, inputs: &[&[f32]], out: &mut [f32], bounds: Bounds) {
        let [left, right] = self.order([inputs[0], inputs[1]]);
        let isa = self.context.isa;
        broadcast_binary(isa, self.op, self.broadcast, left, right, self.plane, out, bounds);
    }

    /// Returns whether the gradients depend on the operands. Those of a sum of equal shapes do not.
    fn reads_inputs(&self) -> bool {
        self.op == Binary::Mul || self.broadcast != Broadcast::None
    }

    fn backward(&self, step: Backward<'_>) {
        let [left, right] = self.order([step.inputs[0], step.inputs[1]]);
        let [d_left, d_right] = step.dx else { return };
        let targets = self.order([d_left.as_deref_mut(), d_right.as_deref_mut()]);
        binary_gradient(
            self.context.isa,
            self.op,
            self.broadcast,
            [left, right],
            self.channels,
            self.plane,
            step.dy,
            targets,
        );
    }
}

/// `activation(x + y)`.
#[derive(Debug)]
pub(super) struct Add {
    operands: Operands,
    activation: Activate,
}

impl Add {
    pub(super) fn new(shapes: [Shape; 2], activation: Activate, context: Context) -> Self {
        Self {
            operands: Operands::new(Binary::Add, shapes, context),
            activation,
        }
    }
}

impl Operator for Add {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.operands.run(inputs, out, self.activation.bounds);
        self.activation.finish(&self.operands.context, out);
    }

    fn reads(&self) -> Reads {
        let activation = self.activation.reads();
        Reads {
            inputs: activation.inputs || self.operands.reads_inputs(),
            ..activation
        }
    }

    fn backward(&self, mut step: Backward<'_>) {
        let context = &self.operands.context;
        if self.activation.smooth.is_some() {
            context.arena.lend(step.dy.len(), |sum| {
                self.operands.run(step.inputs, sum, Bounds::NONE);
                self.activation.smooth_backward(context, sum, step.dy);
            });
        } else {
            self.activation.clamp_backward(context, step.output, step.dy);
        }
        if self.operands.reads_inputs() {
            self.operands.backward(step);
        } else {
            step.pass_on();
        }
    }
}

/// `x · y`.
#[derive(Debug)]
pub(super) struct Mul(Operands);

impl Mul {
    pub(super) fn new(shapes: [Shape; 2], context: Context) -> Self {
        Self(Operands::new(Binary::Mul, shapes, context))
    }
}

impl Operator for Mul {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.0.run(inputs, out, Bounds::NONE);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, step: Backward<'_>) {
        self.0.backward(step);
    }
}
