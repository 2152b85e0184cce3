//! Plain Rust on arrays.

mod int8;

use super::{Kernel, LANES, Simd, Vector};

/// Plain Rust, which runs on every CPU. With `FUSED`, a product and a sum are rounded once (`f32::mul_add`), as vector
/// instructions do; where the CPU has no such instruction, this takes a function call per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar<const FUSED: bool>;

/// Plain Rust that rounds a product and a sum separately.
pub(crate) type Portable = Scalar<false>;
/// Plain Rust whose results are bit-identical to those of the vector instruction sets.
pub(crate) type Exact = Scalar<true>;

/// Sixteen f32 in an array.
#[derive(Clone, Copy)]
pub(crate) struct Array<const FUSED: bool>([f32; LANES]);

impl<const FUSED: bool> Simd for Scalar<FUSED> {
    type Vector = Array<FUSED>;
    const REGISTERS: usize = 4;
    #[inline(always)]
    fn splat(self, value: f32) -> Array<FUSED> {
        Array([value; LANES])
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Array<FUSED> {
        Array(*from)
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl<const FUSED: bool> Array<FUSED> {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl<const FUSED: bool> Vector for Array<FUSED> {
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if FUSED {
                a.0[lane].mul_add(b.0[lane], self.0[lane])
            } else {
                self.0[lane] + a.0[lane] * b.0[lane]
            }
        }))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { b } else { a })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { b } else { a })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if self.0[lane] < bound.0[lane] {
                yes.0[lane]
            } else {
                no.0[lane]
            }
        }))
    }
    #[inline(always)]
    fn repeat<const WIDTH: usize>(self, index: usize) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane / WIDTH * WIDTH + index]))
    }
    #[inline(always)]
    fn scale_by_power(self, n: Self) -> Self {
        // Builds the exponent field of 2^n. NaN converts to 0, but the product with `self` is still NaN.
        self.with(n, |value, n| value * f32::from_bits((((n as i32) + 127) << 23) as u32))
    }
    #[inline(always)]
    fn between(self, low: Self, high: Self, value: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if low.0[lane] < self.0[lane] && self.0[lane] < high.0[lane] {
                value.0[lane]
            } else {
                0.0
            }
        }))
    }
}
