//! Plain Rust for the int8 kernels.

use super::{Array, Exact, LANES, Scalar};
use crate::simd::int8::{Int8Kernel, Int8Simd, Rounding, Step};

impl Exact {
    /// Returns the token, which any CPU supports.
    pub(crate) const fn new() -> Self {
        Scalar
    }
}

impl Int8Simd for Exact {
    type Float = Self;
    type Sums = [i32; LANES];
    type Dots = [i32; LANES];
    type Quad = [i32; 4];
    type Columns = [u8; 4 * LANES];
    type Weights = [i8; 4 * LANES];
    type Range = Rounding;
    const OFFSET: i32 = 0;
    #[inline(always)]
    fn float(self) -> Self {
        self
    }
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [i32; LANES] {
        *start
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> [i32; 4] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [u8; 4 * LANES] {
        std::array::from_fn(|at| x[at % 4 * LANES + at / 4])
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [i8; 4 * LANES] {
        step.0
    }
    #[inline(always)]
    fn dot(self, dots: [i32; LANES], x: [i32; 4], w: [i8; 4 * LANES]) -> [i32; LANES] {
        std::array::from_fn(|lane| {
            (0..4).fold(dots[lane], |sum, input| {
                sum.wrapping_add(x[input] * i32::from(w[lane * 4 + input]))
            })
        })
    }
    #[inline(always)]
    fn dot_columns(self, dots: [i32; LANES], x: [u8; 4 * LANES], w: [i8; 4 * LANES]) -> [i32; LANES] {
        std::array::from_fn(|lane| {
            (lane * 4..lane * 4 + 4).fold(dots[lane], |sum, at| {
                sum.wrapping_add(i32::from(x[at]) * i32::from(w[at]))
            })
        })
    }
    #[inline(always)]
    fn finish(self, dots: [i32; LANES]) -> [i32; LANES] {
        dots
    }
    #[inline(always)]
    fn splat(self, value: i32) -> [i32; LANES] {
        [value; LANES]
    }
    #[inline(always)]
    fn widen(self, x: &[u8; LANES]) -> [i32; LANES] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn add(self, a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    #[inline(always)]
    fn sub(self, a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|lane| a[lane].wrapping_sub(b[lane]))
    }
    #[inline(always)]
    fn clamp(self, a: [i32; LANES], low: [i32; LANES], high: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|lane| a[lane].max(low[lane]).min(high[lane]))
    }
    #[inline(always)]
    fn real(self, sums: [i32; LANES]) -> Array<true> {
        Array(sums.map(|sum| sum as f32))
    }
    #[inline(always)]
    fn round(self, real: Array<true>) -> [i32; LANES] {
        // The conversion saturates.
        real.0.map(|value| value.round_ties_even() as i32)
    }
    #[inline(always)]
    fn range(self, rounding: Rounding) -> Rounding {
        rounding
    }
    #[inline(always)]
    fn bytes(self, sums: [[i32; LANES]; 4], range: Rounding, out: &mut [u8; 4 * LANES]) {
        for (out, sums) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            *out = sums.map(|sum| {
                let byte = sum.saturating_add(i32::from(range.zero_point));
                byte.max(i32::from(range.low)).min(i32::from(range.high)) as u8
            });
        }
    }
    #[inline(always)]
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(never)]
    fn call<K: Int8Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
