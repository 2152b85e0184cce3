//! NEON, where a vector is four registers. NEON's min and max return NaN if either operand is NaN.

/// Evaluates intrinsics of NEON, here and in the modules below. A token or a vector must be available at the call.
macro_rules! proven {
    ($($intrinsics:tt)*) => {{
        // SAFETY: a token exists only if detection found the instructions, and a vector exists only if a token created
        // it; pointers come from references to arrays of at least the size that the instructions read or write.
        #[allow(unused_unsafe, reason = "targets whose baseline has NEON know these intrinsics as safe")]
        unsafe { $($intrinsics)* }
    }};
}

mod delegate;
mod dot;
mod int8;
mod pairs;

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vandq_u32, vbslq_f32, vcltq_f32, vcvtnq_s32_f32, vdivq_f32, vdupq_laneq_f32,
    vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vld1q_f32, vmaxq_f32, vminq_f32, vmulq_f32, vreinterpretq_f32_s32,
    vreinterpretq_f32_u32, vreinterpretq_u32_f32, vshlq_n_s32, vst1q_f32, vsubq_f32, vtrn1q_f32, vtrn2q_f32,
};

pub(crate) use dot::{DotProd, I8mm};
pub(crate) use int8::NeonInt8;
pub(crate) use pairs::{NeonPairs, NeonTaps};

use super::{Kernel, LANES, Simd, Vector};

/// The proof of NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Sixteen f32 in four registers.
#[derive(Clone, Copy)]
pub(crate) struct Quad([float32x4_t; 4]);

impl Simd for Neon {
    type Vector = Quad;
    const REGISTERS: usize = 8;
    #[inline(always)]
    fn splat(self, value: f32) -> Quad {
        proven! { Quad([vdupq_n_f32(value); 4]) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Quad {
        let at = from.as_ptr();
        proven! { Quad([vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))]) }
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn compiled<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(self, kernel) }
    }
}

impl Quad {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self([
            f(self.0[0], other.0[0]),
            f(self.0[1], other.0[1]),
            f(self.0[2], other.0[2]),
            f(self.0[3], other.0[3]),
        ])
    }
}

impl Vector for Quad {
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        let at = to.as_mut_ptr();
        proven! {
            vst1q_f32(at, self.0[0]);
            vst1q_f32(at.add(4), self.0[1]);
            vst1q_f32(at.add(8), self.0[2]);
            vst1q_f32(at.add(12), self.0[3]);
        }
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        proven! {
            Self([
                vfmaq_f32(self.0[0], a.0[0], b.0[0]),
                vfmaq_f32(self.0[1], a.0[1], b.0[1]),
                vfmaq_f32(self.0[2], a.0[2], b.0[2]),
                vfmaq_f32(self.0[3], a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vmaxq_f32(a, b) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { vminq_f32(a, b) })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|part| {
            proven! { vbslq_f32(vcltq_f32(self.0[part], bound.0[part]), yes.0[part], no.0[part]) }
        }))
    }
    #[inline(always)]
    fn repeat<const WIDTH: usize>(self, index: usize) -> Self {
        if WIDTH == 2 {
            return Self(self.0.map(|part| {
                proven! { if index == 0 { vtrn1q_f32(part, part) } else { vtrn2q_f32(part, part) } }
            }));
        }
        // For a group of four or eight lanes, selects the register that contains the lane.
        Self(std::array::from_fn(|part| {
            let from = self.0[part * 4 / WIDTH * WIDTH / 4 + index / 4];
            proven! {
                match index % 4 {
                    0 => vdupq_laneq_f32::<0>(from),
                    1 => vdupq_laneq_f32::<1>(from),
                    2 => vdupq_laneq_f32::<2>(from),
                    _ => vdupq_laneq_f32::<3>(from),
                }
            }
        }))
    }
    #[inline(always)]
    fn scale_by_power(self, n: Self) -> Self {
        // The exponent field of 2^n.
        self.with(n, |value, n| {
            proven! {
                let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
                vmulq_f32(value, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
            }
        })
    }
    #[inline(always)]
    fn between(self, low: Self, high: Self, value: Self) -> Self {
        Self(std::array::from_fn(|part| {
            proven! {
                let inside = vandq_u32(
                    vcltq_f32(low.0[part], self.0[part]),
                    vcltq_f32(self.0[part], high.0[part]),
                );
                vreinterpretq_f32_u32(vandq_u32(inside, vreinterpretq_u32_f32(value.0[part])))
            }
        }))
    }
}
