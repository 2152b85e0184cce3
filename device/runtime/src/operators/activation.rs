//! Activations: a clamp, followed by a smooth function and, in a quantised backbone, by rounding.

use clr_kernels::{Bounds, Smooth, activate, activation_gradient, clamp_gradient, round_to_grid, split};
use clr_onnx::Quantisation;

use super::{Backward, Context, Operator, Reads};

/// An activation in the form that the kernels compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Activate {
    pub(crate) bounds: Bounds,
    pub(crate) smooth: Option<Smooth>,
    /// The grid to which the result is rounded.
    pub(crate) grid: Option<Quantisation>,
}

impl Activate {
    /// No activation.
    pub(crate) const NONE: Self = Self {
        bounds: Bounds::NONE,
        smooth: None,
        grid: None,
    };

    /// Converts `activation`; `None` if the kernels do not support it.
    pub(crate) fn of(activation: Option<clr_onnx::Activation>) -> Option<Self> {
        let Some(activation) = activation else {
            return Some(Self::NONE);
        };
        let (bounds, smooth) = split(activation)?;
        Some(Self {
            bounds,
            smooth,
            grid: None,
        })
    }

    /// Adds rounding to a grid. Without a smooth part, the bounds become those of the grid where these are narrower: the
    /// gradient of the rounding is 1 inside of them and 0 outside (the straight-through estimator). After a smooth part,
    /// it is 1 everywhere.
    #[must_use]
    pub(crate) fn rounded(self, grid: Option<Quantisation>) -> Self {
        let mut bounds = self.bounds;
        if let (Some(grid), None) = (grid, self.smooth) {
            let [low, high] = grid.range();
            bounds = Bounds {
                low: bounds.low.max(low),
                high: bounds.high.min(high),
            };
        }
        Self { bounds, grid, ..self }
    }

    /// Applies the smooth part and the rounding in place. The kernels apply the clamp.
    pub(crate) fn finish(self, context: &Context, values: &mut [f32]) {
        if let Some(smooth) = self.smooth {
            activate(context.isa, values, smooth);
        }
        round(context, self.grid, values);
    }

    /// Multiplies `dy` by the derivative of the clamp: 1 where the clamp's `output` is strictly inside the bounds, else 0.
    pub(crate) fn clamp_backward(self, context: &Context, output: &[f32], dy: &mut [f32]) {
        if self.bounds != Bounds::NONE {
            clamp_gradient(context.isa, output, dy, self.bounds);
        }
    }

    /// Multiplies `dy` by the derivative of the smooth part at the pre-activation `x`.
    pub(crate) fn smooth_backward(self, context: &Context, x: &[f32], dy: &mut [f32]) {
        if let Some(smooth) = self.smooth {
            activation_gradient(context.isa, smooth, x, dy);
        }
    }

    /// Returns the operands that the backward pass of the activation alone reads. For a clamp, the gradient follows
    /// from the output.
    pub(crate) fn reads(self) -> Reads {
        match self.smooth {
            Some(_) => Reads::INPUTS,
            None if self.bounds == Bounds::NONE => Reads::NOTHING,
            None => Reads::OUTPUT,
        }
    }
}

/// Rounds values to a grid, if there is one, in place.
pub(crate) fn round(context: &Context, grid: Option<Quantisation>, values: &mut [f32]) {
    if let Some(Quantisation { scale, zero_point }) = grid {
        round_to_grid(context.isa, values, scale, zero_point);
    }
}

/// An activation that follows neither a convolution nor a sum.
#[derive(Debug)]
pub(super) struct Activation {
    activation: Activate,
    context: Context,
}

impl Activation {
    pub(super) fn new(activation: Activate, context: Context) -> Self {
        Self { activation, context }
    }
}

impl Operator for Activation {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let bounds = self.activation.bounds;
        for (to, from) in out.iter_mut().zip(inputs[0]) {
            // `clamp` is not used, because the bounds come from a file and may be crossed, a case that ONNX defines.
            *to = if *from < bounds.low { bounds.low } else { *from };
            *to = if *to > bounds.high { bounds.high } else { *to };
        }
        self.activation.finish(&self.context, out);
    }

    fn reads(&self) -> Reads {
        self.activation.reads()
    }

    fn backward(&self, mut step: Backward<'_>) {
        match step.inputs.first() {
            Some(x) => self.activation.smooth_backward(&self.context, x, step.dy),
            None => self.activation.clamp_backward(&self.context, step.output, step.dy),
        }
        step.pass_on();
    }
}
