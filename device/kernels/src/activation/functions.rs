//! Activation functions and their derivatives, on vectors of sixteen values.

use std::f32::consts::FRAC_1_SQRT_2;

use super::exponential::{erf, exp, exp_minus_one, sigmoid, tanh};
use crate::simd::{Simd, Vector};

/// An element-wise function.
pub(crate) trait Function: Copy {
    /// Its value at `x`.
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector;
    /// Returns the derivative at `x`; where the function has none, the same value as PyTorch.
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector;
}

/// `x · sigmoid(u)`.
#[inline(always)]
fn gated<S: Simd>(simd: S, x: S::Vector, u: S::Vector) -> S::Vector {
    x.div(exp(simd, u.mul(simd.splat(-1.0))).add(simd.splat(1.0)))
}

#[derive(Clone, Copy)]
pub(crate) struct LeakyRelu(pub(crate) f32);

impl Function for LeakyRelu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        x.select_below(simd.zero(), x.mul(simd.splat(self.0)), x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        simd.zero().select_below(x, simd.splat(1.0), simd.splat(self.0))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        sigmoid(simd, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let y = sigmoid(simd, x);
        y.mul(simd.splat(1.0).sub(y))
    }
}

/// Slope and value at zero.
#[derive(Clone, Copy)]
pub(crate) struct HardSigmoid(pub(crate) f32, pub(crate) f32);

impl HardSigmoid {
    #[inline(always)]
    fn line<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        x.mul(simd.splat(self.0)).add(simd.splat(self.1))
    }
}

impl Function for HardSigmoid {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        self.line(simd, x).clamp(simd.zero(), simd.splat(1.0))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        self.line(simd, x)
            .between(simd.zero(), simd.splat(1.0), simd.splat(self.0))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct HardSwish;

impl Function for HardSwish {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        HardSigmoid(1.0 / 6.0, 0.5).value(simd, x).mul(x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        // 0 below −3, 1 above 3, and x / 3 + 1/2 in between.
        let three = simd.splat(3.0);
        let line = simd.splat(0.5).fma(x, simd.splat(1.0 / 3.0));
        let above = three.select_below(x, simd.splat(1.0), line);
        x.select_below(simd.splat(-3.0), simd.zero(), above)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        gated(simd, x, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let s = sigmoid(simd, x);
        // s + x · s · (1 − s)
        s.fma(x.mul(s), simd.splat(1.0).sub(s))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        tanh(simd, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        // 4 · s · (1 − s) at 2x, which avoids the cancellation in 1 − tanh².
        let s = sigmoid(simd, x.add(x));
        s.mul(simd.splat(1.0).sub(s)).mul(simd.splat(4.0))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Gelu {
    /// The standard normal distribution.
    #[inline(always)]
    fn distribution<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
        let half = simd.splat(0.5);
        half.fma(half, erf(simd, x.mul(simd.splat(FRAC_1_SQRT_2))))
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        // Far below zero, the distribution function is not exactly zero in f32, and its rounding error must not grow
        // with x.
        x.max(simd.splat(-6.0)).mul(Self::distribution(simd, x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        // 1 / √(2π)
        let density = exp(simd, x.mul(x).mul(simd.splat(-0.5))).mul(simd.splat(0.398_942_3));
        Self::distribution(simd, x).fma(x, density)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;

impl GeluTanh {
    /// `2 · √(2 / π)` and its product with 0.044715, because 1/2 · (1 + tanh(u)) = sigmoid(2u).
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_814;
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let u = x.mul(simd.splat(Self::LINEAR).fma(simd.splat(Self::CUBIC), x.mul(x)));
        gated(simd, x, u)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        // Beyond ±20 the derivative is 0 or 1, and the square could overflow.
        let x = x.clamp(simd.splat(-20.0), simd.splat(20.0));
        let square = x.mul(x);
        let u = x.mul(simd.splat(Self::LINEAR).fma(simd.splat(Self::CUBIC), square));
        let slope = simd.splat(Self::LINEAR).fma(simd.splat(3.0 * Self::CUBIC), square);
        let s = sigmoid(simd, u);
        let spread = s.mul(simd.splat(1.0).sub(s));
        s.fma(x.mul(slope), spread)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Elu(pub(crate) f32);

impl Function for Elu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let below = exp_minus_one(simd, x).mul(simd.splat(self.0));
        x.select_below(simd.zero(), below, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let below = exp(simd, x).mul(simd.splat(self.0));
        simd.zero().select_below(x, simd.splat(1.0), below)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Mish;

impl Mish {
    /// Returns `e = e^x` and `n = e · (e + 2)`, where tanh(ln(1 + e)) = n / (n + 2). Beyond 20, the quotient rounds to
    /// 1.
    #[inline(always)]
    fn parts<S: Simd>(simd: S, x: S::Vector) -> (S::Vector, S::Vector) {
        let e = exp(simd, x.min(simd.splat(20.0)));
        (e, e.mul(e.add(simd.splat(2.0))))
    }
}

impl Function for Mish {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let (_, n) = Self::parts(simd, x);
        x.mul(n.div(n.add(simd.splat(2.0))))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        let (e, n) = Self::parts(simd, x);
        let below = n.add(simd.splat(2.0));
        let slope = e.mul(e.add(simd.splat(1.0))).mul(simd.splat(4.0)).div(below.mul(below));
        n.div(below).fma(x, slope)
    }
}
