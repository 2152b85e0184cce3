//! Per-channel scale and bias with a clamp, and a clamp by itself.

use crate::{
    dispatch::{Kernel, dispatch},
    elementwise::affine,
    lanes::Lanes,
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{LANES, Level},
};

/// `out = clamp(x · scale + bias)`; `parameters` are `[scale 16, bias 16]` per block of `plane` values.
pub fn affine_forward(level: Level, x: &[f32], parameters: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    affine(level, x, parameters, plane, out, bounds);
}

/// Turns `dy`, the gradient of [`affine_forward`]'s result, into that of `x`, in place, and adds the gradients of the parameters to
/// `sums`, if given, in the layout of `parameters`.
pub fn affine_gradient(
    level: Level,
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
            level,
            &mut AffineGradient {
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
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        // SAFETY: `affine_gradient` has checked the lengths; whole blocks of sixteen only.
        unsafe {
            let scale = V::load(self.parameters.as_ptr());
            let bias = V::load(self.parameters.as_ptr().add(LANES));
            let (low, high) = (V::splat(self.bounds.low), V::splat(self.bounds.high));
            let (mut by_scale, mut by_bias) = (V::splat(0.0), V::splat(0.0));
            for (dy, x) in self.dy.chunks_exact_mut(LANES).zip(self.x.chunks_exact(LANES)) {
                let x = V::load(x.as_ptr());
                let g = bias.fma(x, scale).between(low, high, V::load(dy.as_ptr()));
                by_scale = by_scale.fma(g, x);
                by_bias = by_bias.add(g);
                g.mul(scale).store(dy.as_mut_ptr());
            }
            if let Some(sums) = &mut self.sums {
                let to = sums.as_mut_ptr();
                V::load(to).add(by_scale).store(to);
                V::load(to.add(LANES)).add(by_bias).store(to.add(LANES));
            }
        }
    }
}

/// Multiplies `dy` by the derivative of a clamp, told from the clamp's `result`: 1 strictly inside the bounds, else 0.
pub fn clamp_gradient(level: Level, result: &[f32], dy: &mut [f32], bounds: Bounds) {
    assert_eq!(result.len(), dy.len());
    dispatch(level, &mut ClampGradient { result, dy, bounds });
}

struct ClampGradient<'a> {
    result: &'a [f32],
    dy: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for ClampGradient<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let Bounds { low, high } = self.bounds;
        for (dy, &y) in self.dy.iter_mut().zip(self.result) {
            *dy = if low < y && y < high { *dy } else { 0.0 };
        }
    }
}
