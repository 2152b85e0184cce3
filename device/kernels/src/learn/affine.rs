//! Gradients of per-channel scale and bias with a clamp, and of a clamp alone.

use crate::{
    elementwise::affine,
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Isa, Kernel, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Computes `out = clamp(x · scale + bias)`. `parameters` are `[scale 16, bias 16]` per block of `plane` values.
pub fn affine_forward(isa: Isa, x: &[f32], parameters: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    affine(isa, x, parameters, plane, out, bounds);
}

/// Replaces `dy`, the gradient of [`affine_forward`]'s result, by the gradient of `x`. If `sums` is given, adds the
/// gradients of the parameters to it, in the layout of `parameters`.
pub fn affine_gradient(
    isa: Isa,
    x: &[f32],
    parameters: &[f32],
    plane: usize,
    dy: &mut [f32],
    mut sums: Option<&mut [f32]>,
    bounds: Bounds,
) {
    assert!(x.len() == dy.len() && x.len() / plane * AFFINE_PARAMETERS == parameters.len());
    assert!(sums.as_ref().is_none_or(|sums| sums.len() == parameters.len()));
    let blocks = x.chunks_exact(plane).zip(dy.chunks_exact_mut(plane)).enumerate();
    for (block, (x, dy)) in blocks {
        let place = block * AFFINE_PARAMETERS..(block + 1) * AFFINE_PARAMETERS;
        let sums = sums.as_deref_mut().map(|sums| &mut sums[place.clone()]);
        dispatch(
            isa,
            AffineGradient {
                x,
                parameters: &parameters[place],
                dy,
                sums,
                bounds,
            },
        );
    }
}

struct AffineGradient<'a> {
    x: &'a [f32],
    parameters: &'a [f32],
    dy: &'a mut [f32],
    sums: Option<&'a mut [f32]>,
    bounds: Bounds,
}

impl Kernel for AffineGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let parameters = vectors(self.parameters);
        let (scale, bias) = (s.load(&parameters[0]), s.load(&parameters[1]));
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let (mut by_scale, mut by_bias) = (s.zero(), s.zero());
        for (dy, x) in vectors_mut(self.dy).iter_mut().zip(vectors(self.x)) {
            let x = s.load(x);
            let g = bias.fma(x, scale).between(low, high, s.load(dy));
            by_scale = by_scale.fma(g, x);
            by_bias = by_bias.add(g);
            g.mul(scale).store(dy);
        }
        if let Some(sums) = self.sums {
            for (sum, more) in vectors_mut(sums).iter_mut().zip([by_scale, by_bias]) {
                s.load(sum).add(more).store(sum);
            }
        }
    }
}

/// Multiplies `dy` by the derivative of a clamp, which follows from the clamp's `result`: 1 strictly inside the bounds,
/// otherwise 0.
pub fn clamp_gradient(isa: Isa, result: &[f32], dy: &mut [f32], bounds: Bounds) {
    assert_eq!(result.len(), dy.len());
    dispatch(isa, ClampGradient { result, dy, bounds });
}

struct ClampGradient<'a> {
    result: &'a [f32],
    dy: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for ClampGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Bounds { low, high } = self.bounds;
        for (dy, &y) in self.dy.iter_mut().zip(self.result) {
            *dy = if low < y && y < high { *dy } else { 0.0 };
        }
    }
}
