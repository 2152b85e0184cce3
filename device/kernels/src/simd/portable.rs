//! Plain Rust on arrays.

use super::{Kernel, LANES, Simd, Vector};

/// Plain Rust, which runs on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

/// Sixteen f32 in an array.
#[derive(Clone, Copy)]
pub(crate) struct Array([f32; LANES]);

impl Simd for Portable {
    type Vector = Array;
    const REGISTERS: usize = 4;
    #[inline(always)]
    fn splat(self, value: f32) -> Array {
        Array([value; LANES])
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Array {
        Array(*from)
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl Array {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Vector for Array {
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + a.0[lane] * b.0[lane]))
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
