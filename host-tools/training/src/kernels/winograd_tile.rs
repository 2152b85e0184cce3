//! The transforms of Winograd's F(4×4, 3×3): kernels, inputs and results.

use super::buffer::Map;
use super::simd::Simd;
use super::winograd::{POINTS, TILE};

/// `G g Gᵀ`.
pub(super) fn transform_kernel(kernel: [f64; 9]) -> [f32; POINTS] {
    const G: [[f64; 3]; 6] = [
        [0.25, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    std::array::from_fn(|point| {
        let (a, b) = (G[point / 6], G[point % 6]);
        (0..9).map(|tap| a[tap / 3] * kernel[tap] * b[tap % 3]).sum::<f64>() as f32
    })
}

/// `Bᵀ d`.
#[inline(always)]
pub(super) unsafe fn transform_input<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: register arithmetic at the level of S.
    unsafe {
        let (four, minus_four, minus_five, two) = (S::splat(4.0), S::splat(-4.0), S::splat(-5.0), S::splat(2.0));
        let a = S::fma(d[2], minus_four, d[4]);
        let b = S::fma(d[1], minus_four, d[3]);
        let c = S::sub(d[4], d[2]);
        let e = S::mul(two, S::sub(d[3], d[1]));
        [
            S::fma(d[0], four, S::fma(d[2], minus_five, d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::add(c, e),
            S::sub(c, e),
            S::fma(d[1], four, S::fma(d[3], minus_five, d[5])),
        ]
    }
}

/// `Aᵀ M A` for up to a vector of tiles, written to the plane.
#[inline(always)]
pub(super) unsafe fn output_tile<S: Simd>(
    from: *const f32,
    step: usize,
    y: usize,
    x: usize,
    lanes: usize,
    row: &mut [f32],
    plane: *mut f32,
    to: Map,
) {
    // SAFETY: as the caller's.
    unsafe {
        let mut half = [[S::splat(0.0); 6]; 4];
        for j in 0..6 {
            let m = |i: usize| S::load_n(from.add((i * 6 + j) * step), lanes);
            let t = transform_output::<S>([m(0), m(1), m(2), m(3), m(4), m(5)]);
            for (half, t) in half.iter_mut().zip(t) {
                half[j] = t;
            }
        }
        let len = (TILE * lanes).min(to.w - x);
        for (i, half) in half.into_iter().enumerate().take(to.h - y) {
            let values = transform_output::<S>(half);
            let target = plane.add((y + i) * to.w + x);
            if len == TILE * S::LANES {
                S::interleave(values, target);
            } else {
                S::interleave(values, row.as_mut_ptr());
                let mut j = 0;
                while j < len {
                    let n = S::LANES.min(len - j);
                    S::store_n(target.add(j), S::load(row.as_ptr().add(j)), n);
                    j += S::LANES;
                }
            }
        }
    }
}

/// `Aᵀ m`.
#[inline(always)]
unsafe fn transform_output<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: register arithmetic at the level of S.
    unsafe {
        let (sum, difference) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (outer_sum, outer_difference) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum, outer_sum)),
            S::fma(outer_difference, S::splat(2.0), difference),
            S::fma(outer_sum, S::splat(4.0), sum),
            S::add(m[5], S::fma(outer_difference, S::splat(8.0), difference)),
        ]
    }
}
