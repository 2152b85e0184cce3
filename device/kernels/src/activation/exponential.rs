//! Exponential function and functions based on it: `e^x = 2^n · e^r` with `|r| ≤ ln 2 / 2` (Cody–Waite reduction, with
//! the polynomial of Cephes' `expf`).
//!
//! Arguments saturate at ±87, where `e^x` is still a normal number. NaN stays NaN.

use crate::simd::{Simd, Vector};

/// Returns the integer `n` and the remainder `r` of `x = n · ln 2 + r`.
#[inline(always)]
fn reduce<S: Simd>(simd: S, x: S::Vector) -> (S::Vector, S::Vector) {
    // Adding and then subtracting 1.5 · 2^23 rounds to an integer.
    let magic = simd.splat(12_582_912.0);
    let x = x.clamp(simd.splat(-87.0), simd.splat(87.0));
    let n = magic.fma(x, simd.splat(std::f32::consts::LOG2_E)).sub(magic);
    // ln 2 as a sum of two constants. The first has so few bits that its product with `n` is exact.
    let r = x.fma(n, simd.splat(-0.693_359_4)).fma(n, simd.splat(2.121_944_4e-4));
    (n, r)
}

/// `e^r − 1` for a small `r`.
#[inline(always)]
fn small<S: Simd>(simd: S, r: S::Vector) -> S::Vector {
    let p = simd.splat(1.398_199_9e-3).fma(simd.splat(1.987_569_1e-4), r);
    let p = simd.splat(8.333_452e-3).fma(p, r);
    let p = simd.splat(4.166_579_6e-2).fma(p, r);
    let p = simd.splat(1.666_666_5e-1).fma(p, r);
    let p = simd.splat(0.5).fma(p, r);
    r.fma(p, r.mul(r))
}

/// `e^x`, within 2 ulp.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let (n, r) = reduce(simd, x);
    small(simd, r).add(simd.splat(1.0)).scale_by_power(n)
}

/// `e^x − 1`, precise also near zero.
#[inline(always)]
pub(crate) fn exp_minus_one<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let (n, r) = reduce(simd, x);
    let power = simd.splat(1.0).scale_by_power(n);
    power.sub(simd.splat(1.0)).fma(power, small(simd, r))
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    one.div(exp(simd, x.mul(simd.splat(-1.0))).add(one))
}

/// `tanh(x)`, precise also near zero.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let t = exp_minus_one(simd, x.add(x));
    t.div(t.add(simd.splat(2.0)))
}

/// Returns the error function: `x · P(x²) / Q(x²)` on ±3.83, beyond which it rounds to ±1 (the coefficients are those
/// of XLA and Eigen). The error is at most 6 ulp.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let x = x.clamp(simd.splat(-3.832_507), simd.splat(3.832_507));
    let square = x.mul(x);
    let p = simd.splat(3.408_291e-3).fma(simd.splat(2.290_506_6e-4), square);
    let p = simd.splat(5.095_569_5e-2).fma(p, square);
    let p = simd.splat(1.852_083_2e-1).fma(p, square);
    let p = simd.splat(std::f32::consts::FRAC_2_SQRT_PI).fma(p, square);
    let q = simd.splat(2.354_796_6e-5).fma(simd.splat(-1.179_160_3e-7), square);
    let q = simd.splat(1.017_962_5e-3).fma(q, square);
    let q = simd.splat(1.407_047e-2).fma(q, square);
    let q = simd.splat(1.109_850_5e-1).fma(q, square);
    let q = simd.splat(4.974_692_5e-1).fma(q, square);
    let q = simd.splat(1.0).fma(q, square);
    x.mul(p).div(q)
}
