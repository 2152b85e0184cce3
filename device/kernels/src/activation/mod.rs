//! Activations. Clamps are applied together with the sums; smooth functions are a second pass over rows that are still
//! in the cache.

mod exponential;
mod functions;
#[cfg(test)]
mod tests;

use clr_onnx::Activation;

pub(crate) use exponential::exp;
pub(crate) use functions::Function;
use functions::{Elu, Gelu, GeluTanh, HardSigmoid, HardSwish, LeakyRelu, Mish, Sigmoid, Silu, Tanh};

use crate::{
    rows::Bounds,
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch},
};

/// An activation that is not a clamp. The error of each is at most 4e-7, relative to the larger of its input and its
/// value. NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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
    /// `tanh(x)`.
    Tanh,
    /// `x · Φ(x)`, where Φ is the standard normal distribution function: `x / 2 · (1 + erf(x / √2))`.
    Gelu,
    /// `x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 · x³)))`.
    GeluTanh,
    /// `x if x ≥ 0 else alpha · (e^x − 1)`.
    Elu {
        /// Minus the limit far below zero.
        alpha: f32,
    },
    /// `x · tanh(ln(1 + e^x))`.
    Mish,
}

/// Splits an activation into a clamp and a smooth function. Returns `None` for an activation that this crate does not
/// support.
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
        Activation::Gelu => (Bounds::NONE, Some(Smooth::Gelu)),
        Activation::GeluTanh => (Bounds::NONE, Some(Smooth::GeluTanh)),
        Activation::Tanh => (Bounds::NONE, Some(Smooth::Tanh)),
        Activation::Elu { alpha } => (Bounds::NONE, Some(Smooth::Elu { alpha })),
        Activation::Mish => (Bounds::NONE, Some(Smooth::Mish)),
        _ => return None,
    })
}

/// Applies `smooth` in place, to any number of values.
pub fn activate(isa: Isa, values: &mut [f32], smooth: Smooth) {
    dispatch(isa, Chosen(smooth, Activate { values }));
}

/// An operation that uses the function of an activation.
pub(crate) trait Apply {
    /// Executes the operation with the given function.
    fn apply<S: Simd, F: Function>(self, simd: S, function: F);
}

/// An operation with the activation that selects its function. One loop is compiled per function.
pub(crate) struct Chosen<A>(pub(crate) Smooth, pub(crate) A);

impl<A: Apply> Kernel for Chosen<A> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(smooth, work) = self;
        match smooth {
            Smooth::LeakyRelu { alpha } => work.apply(simd, LeakyRelu(alpha)),
            Smooth::Sigmoid => work.apply(simd, Sigmoid),
            Smooth::HardSigmoid { alpha, beta } => work.apply(simd, HardSigmoid(alpha, beta)),
            Smooth::HardSwish => work.apply(simd, HardSwish),
            Smooth::Silu => work.apply(simd, Silu),
            Smooth::Tanh => work.apply(simd, Tanh),
            Smooth::Gelu => work.apply(simd, Gelu),
            Smooth::GeluTanh => work.apply(simd, GeluTanh),
            Smooth::Elu { alpha } => work.apply(simd, Elu(alpha)),
            Smooth::Mish => work.apply(simd, Mish),
        }
    }
}

struct Activate<'a> {
    values: &'a mut [f32],
}

impl Apply for Activate<'_> {
    #[inline(always)]
    fn apply<S: Simd, F: Function>(self, simd: S, function: F) {
        let (vectors, rest) = self.values.as_chunks_mut::<LANES>();
        for values in vectors {
            function.value(simd, simd.load(values)).store(values);
        }
        if !rest.is_empty() {
            let mut values = [0.0; LANES];
            values[..rest.len()].copy_from_slice(rest);
            function.value(simd, simd.load(&values)).store(&mut values);
            rest.copy_from_slice(&values[..rest.len()]);
        }
    }
}
