//! Element by element: sums, products, per-channel scale and bias, where they could not be fused into a convolution.

use super::{
    dispatch::{Kernel, dispatch},
    lanes::Lanes,
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{LANES, Level},
};

/// Which operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// A sum.
    Add,
    /// A product.
    Mul,
}

/// `out = left ∘ right`, clamped. `right` has the shape of `left`, or one pixel per block: `plane` is then the number
/// of values per block of `left`.
pub fn binary(level: Level, op: Binary, left: &[f32], right: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    assert_eq!(left.len(), out.len());
    if left.len() == right.len() {
        dispatch(
            level,
            &mut Pairwise {
                op,
                left,
                right,
                out,
                bounds,
            },
        );
    } else {
        assert_eq!(left.len() / plane * LANES, right.len());
        for ((left, right), out) in left.chunks(plane).zip(right.chunks(LANES)).zip(out.chunks_mut(plane)) {
            dispatch(
                level,
                &mut PerChannel {
                    op,
                    left,
                    right,
                    out,
                    bounds,
                },
            );
        }
    }
}

struct Pairwise<'a> {
    op: Binary,
    left: &'a [f32],
    right: &'a [f32],
    out: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for Pairwise<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let Bounds { low, high } = self.bounds;
        let all = self.out.iter_mut().zip(self.left).zip(self.right);
        match self.op {
            Binary::Add => all.for_each(|((out, &a), &b)| *out = clamp(a + b, low, high)),
            Binary::Mul => all.for_each(|((out, &a), &b)| *out = clamp(a * b, low, high)),
        }
    }
}

struct PerChannel<'a> {
    op: Binary,
    left: &'a [f32],
    right: &'a [f32],
    out: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for PerChannel<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let Bounds { low, high } = self.bounds;
        for (out, left) in self.out.chunks_exact_mut(LANES).zip(self.left.chunks_exact(LANES)) {
            let all = out.iter_mut().zip(left).zip(self.right);
            match self.op {
                Binary::Add => all.for_each(|((out, &a), &b)| *out = clamp(a + b, low, high)),
                Binary::Mul => all.for_each(|((out, &a), &b)| *out = clamp(a * b, low, high)),
            }
        }
    }
}

/// `out = x · scale + bias`, clamped; `parameters` are `[scale 16, bias 16]` per block of `plane` values.
pub fn affine(level: Level, x: &[f32], parameters: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    assert!(x.len() == out.len() && x.len() / plane * AFFINE_PARAMETERS == parameters.len());
    for ((x, parameters), out) in x
        .chunks(plane)
        .zip(parameters.chunks(AFFINE_PARAMETERS))
        .zip(out.chunks_mut(plane))
    {
        dispatch(
            level,
            &mut Affine {
                x,
                parameters,
                out,
                bounds,
            },
        );
    }
}

struct Affine<'a> {
    x: &'a [f32],
    parameters: &'a [f32],
    out: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for Affine<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        // SAFETY: `affine` has checked the lengths; whole blocks of sixteen only.
        unsafe {
            let scale = V::load(self.parameters.as_ptr());
            let bias = V::load(self.parameters.as_ptr().add(LANES));
            let (low, high) = (V::splat(self.bounds.low), V::splat(self.bounds.high));
            for (out, x) in self.out.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)) {
                bias.fma(V::load(x.as_ptr()), scale)
                    .clamp(low, high)
                    .store(out.as_mut_ptr());
            }
        }
    }
}

/// `out = x if x ≥ 0 else slope · x`, slope `[16]` per block of `plane` values.
pub fn prelu(level: Level, x: &[f32], slope: &[f32], plane: usize, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len() / plane * LANES == slope.len());
    for ((x, slope), out) in x.chunks(plane).zip(slope.chunks(LANES)).zip(out.chunks_mut(plane)) {
        dispatch(level, &mut PRelu { x, slope, out });
    }
}

struct PRelu<'a> {
    x: &'a [f32],
    slope: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for PRelu<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        for (out, x) in self.out.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)) {
            for ((out, &x), &slope) in out.iter_mut().zip(x).zip(self.slope) {
                *out = if x < 0.0 { slope * x } else { x };
            }
        }
    }
}

/// Like `f32::clamp`, for bounds that are known to be in order; NaN stays.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}
