//! Activations on vectors: the value and the slope, both from the pre-activation.

use super::simd::Simd;
use clr_onnx::Activation;

/// An element-wise function with its derivative.
pub(crate) trait Act: Copy + Send + Sync {
    /// The value at `z`.
    unsafe fn value<S: Simd>(self, z: S::V) -> S::V;
    /// The derivative at `z`.
    unsafe fn slope<S: Simd>(self, z: S::V) -> S::V;
}

/// `min(max(z, low), high)`: the identity, `Relu` and every clip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    low: f32,
    high: f32,
}

impl Act for Bounds {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, z: S::V) -> S::V {
        // SAFETY: the caller runs at the level of S. The order of the operands lets a NaN through.
        unsafe { S::min(S::splat(self.high), S::max(S::splat(self.low), z)) }
    }

    #[inline(always)]
    unsafe fn slope<S: Simd>(self, z: S::V) -> S::V {
        // SAFETY: the caller runs at the level of S.
        unsafe {
            let (zero, one) = (S::splat(0.0), S::splat(1.0));
            let below = S::select_gt(S::splat(self.high), z, one, zero);
            S::select_gt(z, S::splat(self.low), below, zero)
        }
    }
}

/// Any other activation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve(Activation);

impl Act for Curve {
    #[inline(always)]
    unsafe fn value<S: Simd>(self, z: S::V) -> S::V {
        // SAFETY: the caller runs at the level of S.
        unsafe {
            match self.0 {
                Activation::Sigmoid => S::map(z, sigmoid),
                Activation::Silu => S::map(z, |z| z * sigmoid(z)),
                Activation::LeakyRelu { alpha } => S::map(z, |z| if z >= 0.0 { z } else { alpha * z }),
                Activation::HardSigmoid { alpha, beta } => S::map(z, |z| unit(alpha * z + beta)),
                Activation::HardSwish => S::map(z, |z| z * unit(z * (1.0 / 6.0) + 0.5)),
                Activation::Relu => S::map(z, |z| z.max(0.0)),
                Activation::Clip { min, max } => S::map(z, |z| z.max(min).min(max)),
                _ => z,
            }
        }
    }

    #[inline(always)]
    unsafe fn slope<S: Simd>(self, z: S::V) -> S::V {
        // SAFETY: the caller runs at the level of S.
        unsafe {
            match self.0 {
                Activation::Sigmoid => S::map(z, |z| {
                    let s = sigmoid(z);
                    s * (1.0 - s)
                }),
                Activation::Silu => S::map(z, |z| {
                    let s = sigmoid(z);
                    s * (1.0 + z * (1.0 - s))
                }),
                Activation::LeakyRelu { alpha } => S::map(z, |z| if z > 0.0 { 1.0 } else { alpha }),
                Activation::HardSigmoid { alpha, beta } => S::map(z, |z| {
                    let v = alpha * z + beta;
                    if v > 0.0 && v < 1.0 { alpha } else { 0.0 }
                }),
                Activation::HardSwish => S::map(z, |z| {
                    if z <= -3.0 {
                        0.0
                    } else if z >= 3.0 {
                        1.0
                    } else {
                        z * (1.0 / 3.0) + 0.5
                    }
                }),
                Activation::Relu => S::map(z, |z| if z > 0.0 { 1.0 } else { 0.0 }),
                Activation::Clip { min, max } => S::map(z, |z| if z > min && z < max { 1.0 } else { 0.0 }),
                _ => S::splat(1.0),
            }
        }
    }
}

#[inline(always)]
fn unit(x: f32) -> f32 {
    x.clamp(0.0, 1.0)
}

/// `1 / (1 + e^−x)` without branches, within 2 ULP of the exact value over the range where it is not saturated.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `e^x` without branches: Cody–Waite reduction and a polynomial of degree 6, saturating at ±87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer held in the low bits.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 87.0 { 87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let e = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    e * f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// An activation, sorted by how it is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sorted {
    Bounds(Bounds),
    Curve(Curve),
}

impl Sorted {
    /// Sorts `act`; `None` is the identity.
    pub(crate) fn new(act: Option<Activation>) -> Self {
        match act {
            None => Self::Bounds(Bounds {
                low: f32::NEG_INFINITY,
                high: f32::INFINITY,
            }),
            Some(Activation::Relu) => Self::Bounds(Bounds {
                low: 0.0,
                high: f32::INFINITY,
            }),
            Some(Activation::Clip { min, max }) => Self::Bounds(Bounds { low: min, high: max }),
            Some(other) => Self::Curve(Curve(other)),
        }
    }
}

/// Runs an expression with the activation as a concrete type.
macro_rules! with_act {
    ($act:expr, $name:ident => $body:expr) => {
        match $crate::kernels::act::Sorted::new($act) {
            $crate::kernels::act::Sorted::Bounds($name) => $body,
            $crate::kernels::act::Sorted::Curve($name) => $body,
        }
    };
}
pub(crate) use with_act;

#[cfg(test)]
mod tests {
    use super::{exp, sigmoid};

    #[test]
    fn exp_is_exact_to_single_precision() {
        for i in -8700..=8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "e^{x}");
        }
        assert_eq!(sigmoid(-1000.0), 1.0 / (1.0 + exp(87.0)));
        assert_eq!(sigmoid(1000.0), 1.0);
    }
}
