//! Activations: clamps travel with the sums, smooth ones are a second pass over rows that are still in the cache.

use clr_onnx::Activation;

use super::{
    dispatch::{Kernel, dispatch},
    lanes::{Lanes, Level},
    rows::Bounds,
};

/// An activation that is not a clamp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Smooth {
    /// `x if x ≥ 0 else alpha · x`.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `min(max(alpha · x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// `x · min(max(x / 6 + 1/2, 0), 1)`.
    HardSwish,
    /// `x · sigmoid(x)`.
    Silu,
}

/// An activation as a clamp and what remains; `None` for an activation that this crate does not know.
pub fn split(activation: Activation) -> Option<(Bounds, Option<Smooth>)> {
    Some(match activation {
        Activation::Relu => (
            Bounds {
                low: 0.0,
                high: f32::INFINITY,
            },
            None,
        ),
        Activation::Clip { min, max } => (Bounds { low: min, high: max }, None),
        Activation::LeakyRelu { alpha } => (Bounds::NONE, Some(Smooth::LeakyRelu { alpha })),
        Activation::Sigmoid => (Bounds::NONE, Some(Smooth::Sigmoid)),
        Activation::HardSigmoid { alpha, beta } => (Bounds::NONE, Some(Smooth::HardSigmoid { alpha, beta })),
        Activation::HardSwish => (Bounds::NONE, Some(Smooth::HardSwish)),
        Activation::Silu => (Bounds::NONE, Some(Smooth::Silu)),
        _ => return None,
    })
}

/// Applies `smooth` in place.
pub fn activate(level: Level, values: &mut [f32], smooth: Smooth) {
    dispatch(level, &mut Activate { values, smooth });
}

struct Activate<'a> {
    values: &'a mut [f32],
    smooth: Smooth,
}

impl Kernel for Activate<'_> {
    // Plain loops: compiled once per instruction set, the compiler vectorises them.
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        match self.smooth {
            Smooth::LeakyRelu { alpha } => {
                self.values
                    .iter_mut()
                    .for_each(|x| *x = if *x < 0.0 { alpha * *x } else { *x });
            }
            Smooth::Sigmoid => self.values.iter_mut().for_each(|x| *x = sigmoid(*x)),
            Smooth::HardSigmoid { alpha, beta } => {
                self.values
                    .iter_mut()
                    .for_each(|x| *x = (alpha * *x + beta).clamp(0.0, 1.0));
            }
            Smooth::HardSwish => self
                .values
                .iter_mut()
                .for_each(|x| *x *= (*x / 6.0 + 0.5).clamp(0.0, 1.0)),
            Smooth::Silu => self.values.iter_mut().for_each(|x| *x *= sigmoid(*x)),
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `e^x` without branches, so that it vectorises: 2^n · e^r with |r| ≤ ln 2 / 2 (Cody–Waite reduction), within 2 ulp
/// (`exponential_is_close`). Saturates beyond ±87; NaN stays NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    // Adding and subtracting 1.5 · 2^23 rounds to an integer.
    let magic = 12_582_912.0;
    let n = (x * std::f32::consts::LOG2_E + magic) - magic;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    value * f32::from_bits((((n as i32) + 127) << 23) as u32)
}
