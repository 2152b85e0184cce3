//! NEON for int8 kernels whose weights are at least −127: the sum of two products then fits in an i16, and is added to
//! the i32 sums once.

use std::arch::{
    aarch64::{
        int8x16_t, int16x8_t, int32x4_t, vaddw_high_s16, vaddw_s16, vdupq_laneq_s32, vdupq_n_s8, vdupq_n_u32,
        vget_low_s8, vget_low_s16, vld1q_u8, vld4q_s8, vmlal_high_s8, vmlal_s8, vmull_high_s8, vmull_s8,
        vreinterpretq_s8_s32, vreinterpretq_s32_s8, vreinterpretq_u8_u32,
    },
    asm,
};

use super::{
    delegate::delegate,
    int8::{NeonInt8, begin, signed},
};
use crate::simd::{
    LANES,
    int8::{Int8Kernel, Int8Simd, Step},
};

/// The proof of NEON, for the same inputs for all outputs. Sums are of two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonPairs(NeonInt8);

/// The proof of NEON, for inputs of their own for every output. Sums are of two of a step's four inputs; without `PAIRS`,
/// for weights of −128, every product is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonTaps<const PAIRS: bool>(NeonInt8);

impl NeonPairs {
    /// Returns the token.
    pub(crate) fn new(neon: NeonInt8) -> Self {
        Self(neon)
    }

    /// Returns the token for any weights.
    pub(crate) fn neon(self) -> NeonInt8 {
        self.0
    }

    /// Returns the token for inputs of their own.
    pub(crate) fn taps(self) -> NeonTaps<true> {
        NeonTaps(self.0)
    }
}

impl NeonTaps<false> {
    /// Returns the token.
    pub(crate) fn new(neon: NeonInt8) -> Self {
        Self(neon)
    }
}

/// Defines how a kernel runs.
macro_rules! run {
    () => {
        #[inline(always)]
        fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
            #[target_feature(enable = "neon")]
            fn compiled<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
                kernel.run(simd)
            }
            proven! { compiled(self, kernel) }
        }
    };
}

impl Int8Simd for NeonPairs {
    delegate!();
    run!();
    /// As [`NeonInt8`]: two sums per output.
    type Dots = [int32x4_t; 8];
    /// The same four inputs four times.
    type Quad = int8x16_t;
    type Columns = [int8x16_t; 4];
    type Weights = [int8x16_t; 4];
    const OFFSET: i32 = NeonInt8::OFFSET;
    const FOURS: bool = true;
    const PAIRS: bool = true;
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [int32x4_t; 8] {
        self.0.begin(start)
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> int8x16_t {
        signed(proven! { vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(x))) })
    }
    #[inline(always)]
    fn four(self, x: &[u8; LANES]) -> [int8x16_t; 4] {
        proven! {
            let x = vreinterpretq_s32_s8(signed(vld1q_u8(x.as_ptr())));
            [
                vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
            ]
        }
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [int8x16_t; 4] {
        self.0.columns(x)
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [int8x16_t; 4] {
        self.0.weights(step)
    }
    #[inline(always)]
    fn dot(self, dots: [int32x4_t; 8], x: int8x16_t, w: [int8x16_t; 4]) -> [int32x4_t; 8] {
        self.dot_columns(dots, [x; 4], w)
    }
    #[inline(always)]
    fn dot_pair(self, mut dots: [int32x4_t; 8], x: [int8x16_t; 2], w: [[int8x16_t; 4]; 2]) -> [int32x4_t; 8] {
        for part in 0..4 {
            // The compiler would compute all products first, and keep most of them in memory.
            // SAFETY: a token exists only if detection found the instructions, which have no other effect than
            // their result.
            unsafe {
                asm!(
                    "smull {low:v}.8h, {x0:v}.8b, {w0:v}.8b",
                    "smull2 {high:v}.8h, {x0:v}.16b, {w0:v}.16b",
                    "smlal {low:v}.8h, {x1:v}.8b, {w1:v}.8b",
                    "smlal2 {high:v}.8h, {x1:v}.16b, {w1:v}.16b",
                    "sadalp {first:v}.4s, {low:v}.8h",
                    "sadalp {second:v}.4s, {high:v}.8h",
                    low = out(vreg) _, high = out(vreg) _,
                    first = inout(vreg) dots[2 * part], second = inout(vreg) dots[2 * part + 1],
                    x0 = in(vreg) x[0], x1 = in(vreg) x[1], w0 = in(vreg) w[0][part], w1 = in(vreg) w[1][part],
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
        dots
    }
    #[inline(always)]
    fn dot_columns(self, dots: [int32x4_t; 8], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 8] {
        self.0.dot_columns(dots, x, w)
    }
    #[inline(always)]
    fn finish(self, dots: [int32x4_t; 8]) -> [int32x4_t; 4] {
        self.0.finish(dots)
    }
}

impl<const PAIRS: bool> Int8Simd for NeonTaps<PAIRS> {
    delegate!();
    run!();
    type Dots = [int32x4_t; 4];
    /// Four inputs, each in all lanes.
    type Quad = [int8x16_t; 4];
    /// Four pixels of sixteen channels.
    type Columns = [int8x16_t; 4];
    /// `[4 inputs][16 outputs]`.
    type Weights = [int8x16_t; 4];
    const OFFSET: i32 = NeonInt8::OFFSET;
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [int32x4_t; 4] {
        begin(self.0, start)
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> [int8x16_t; 4] {
        x.map(|x| proven! { vdupq_n_s8(x.wrapping_sub(128) as i8) })
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [int8x16_t; 4] {
        let at = x.as_ptr();
        proven! {
            [
                signed(vld1q_u8(at)),
                signed(vld1q_u8(at.add(16))),
                signed(vld1q_u8(at.add(32))),
                signed(vld1q_u8(at.add(48))),
            ]
        }
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [int8x16_t; 4] {
        let w = proven! { vld4q_s8(step.0.as_ptr()) };
        [w.0, w.1, w.2, w.3]
    }
    #[inline(always)]
    fn dot(self, dots: [int32x4_t; 4], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        self.dot_columns(dots, x, w)
    }
    #[inline(always)]
    fn dot_columns(self, mut dots: [int32x4_t; 4], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        for pair in 0..2 {
            let (a, b) = (2 * pair, 2 * pair + 1);
            proven! {
                let low = vmull_s8(vget_low_s8(x[a]), vget_low_s8(w[a]));
                let high = vmull_high_s8(x[a], w[a]);
                if PAIRS {
                    let low = vmlal_s8(low, vget_low_s8(x[b]), vget_low_s8(w[b]));
                    dots = widened(dots, low, vmlal_high_s8(high, x[b], w[b]));
                } else {
                    dots = widened(dots, low, high);
                    let low = vmull_s8(vget_low_s8(x[b]), vget_low_s8(w[b]));
                    dots = widened(dots, low, vmull_high_s8(x[b], w[b]));
                }
            }
        }
        dots
    }
    #[inline(always)]
    fn finish(self, dots: [int32x4_t; 4]) -> [int32x4_t; 4] {
        dots
    }
}

/// Adds sixteen i16.
#[inline(always)]
fn widened(dots: [int32x4_t; 4], low: int16x8_t, high: int16x8_t) -> [int32x4_t; 4] {
    proven! {
        [
            vaddw_s16(dots[0], vget_low_s16(low)),
            vaddw_high_s16(dots[1], low),
            vaddw_s16(dots[2], vget_low_s16(high)),
            vaddw_high_s16(dots[3], high),
        ]
    }
}
