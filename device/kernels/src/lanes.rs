//! Sixteen f32 side by side: the one vector type that every kernel is written in, in one shape per instruction set.
//!
//! A value of the network is stored as `[⌈C / 16⌉, H, W, 16]`, so the sixteen lanes are sixteen channels of one pixel
//! and no kernel ever shuffles.

use super::simd::LANES;

/// Sixteen f32. NaN in `self` survives [`Lanes::clamp`], so a broken input is seen in the answer.
///
/// # Safety
/// Every function may only run where the implementing type's instruction set is available; pointers must be valid for
/// sixteen f32 (no alignment needed).
pub(crate) trait Lanes: Copy {
    /// Reads sixteen values.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes sixteen values.
    unsafe fn store(self, to: *mut f32);
    /// The same value sixteen times.
    unsafe fn splat(value: f32) -> Self;
    /// `self + a · b`.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self · other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger, lane by lane.
    unsafe fn max(self, other: Self) -> Self;
    /// `min(max(self, low), high)`.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// `value` where `low < self < high`, else zero: a clamp's derivative times `value`.
    unsafe fn between(self, low: Self, high: Self, value: Self) -> Self;
}

impl Lanes for [f32; LANES] {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller hands over sixteen readable f32.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller hands over sixteen writable f32.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + a[lane] * b[lane])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|lane| {
            if self[lane] < other[lane] {
                other[lane]
            } else {
                self[lane]
            }
        })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        std::array::from_fn(|lane| {
            let value = if self[lane] < low[lane] { low[lane] } else { self[lane] };
            if value > high[lane] { high[lane] } else { value }
        })
    }
    #[inline(always)]
    unsafe fn between(self, low: Self, high: Self, value: Self) -> Self {
        std::array::from_fn(|lane| {
            if low[lane] < self[lane] && self[lane] < high[lane] {
                value[lane]
            } else {
                0.0
            }
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _CMP_LT_OQ, _mm256_add_ps, _mm256_and_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_add_ps,
        _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_cmp_ps_mask, _mm512_maskz_mov_ps,
        _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::Lanes;

    // SAFETY of both: the trait's contract is the intrinsics' own (the instruction set is there, pointers are valid).
    // The bound is the first operand of min and max: x86 returns the second one when either is NaN.
    impl Lanes for __m512 {
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { _mm512_add_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { _mm512_mul_ps(self, other) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { _mm512_max_ps(other, self) }
        }
        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            unsafe { _mm512_min_ps(high, _mm512_max_ps(low, self)) }
        }
        #[inline(always)]
        unsafe fn between(self, low: Self, high: Self, value: Self) -> Self {
            unsafe {
                let above = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(low, self);
                _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, self, high), value)
            }
        }
    }

    /// A vector as two AVX registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Pair(__m256, __m256);

    impl Lanes for Pair {
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(other.0, self.0), _mm256_max_ps(other.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            unsafe {
                Self(
                    _mm256_min_ps(high.0, _mm256_max_ps(low.0, self.0)),
                    _mm256_min_ps(high.1, _mm256_max_ps(low.1, self.1)),
                )
            }
        }
        #[inline(always)]
        unsafe fn between(self, low: Self, high: Self, value: Self) -> Self {
            let half = |x: __m256, low: __m256, high: __m256, value: __m256| unsafe {
                let inside = _mm256_and_ps(
                    _mm256_cmp_ps::<_CMP_LT_OQ>(low, x),
                    _mm256_cmp_ps::<_CMP_LT_OQ>(x, high),
                );
                _mm256_and_ps(inside, value)
            };
            Self(
                half(self.0, low.0, high.0, value.0),
                half(self.1, low.1, high.1, value.1),
            )
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use {std::arch::x86_64::__m512 as Avx512Lanes, x86::Pair as Avx2Lanes};

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::{
        float32x4_t, vaddq_f32, vandq_u32, vcltq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmaxq_f32, vminq_f32,
        vmulq_f32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vst1q_f32,
    };

    use super::Lanes;

    /// A vector as four NEON registers. NEON's min and max return NaN when either operand is NaN.
    #[derive(Clone, Copy)]
    pub(crate) struct Quad([float32x4_t; 4]);

    // SAFETY: the trait's contract is the intrinsics' own.
    impl Lanes for Quad {
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe {
                Self([
                    vld1q_f32(from),
                    vld1q_f32(from.add(4)),
                    vld1q_f32(from.add(8)),
                    vld1q_f32(from.add(12)),
                ])
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                vst1q_f32(to, self.0[0]);
                vst1q_f32(to.add(4), self.0[1]);
                vst1q_f32(to.add(8), self.0[2]);
                vst1q_f32(to.add(12), self.0[3]);
            }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self([vdupq_n_f32(value); 4]) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe {
                Self([
                    vfmaq_f32(self.0[0], a.0[0], b.0[0]),
                    vfmaq_f32(self.0[1], a.0[1], b.0[1]),
                    vfmaq_f32(self.0[2], a.0[2], b.0[2]),
                    vfmaq_f32(self.0[3], a.0[3], b.0[3]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe {
                Self([
                    vaddq_f32(self.0[0], other.0[0]),
                    vaddq_f32(self.0[1], other.0[1]),
                    vaddq_f32(self.0[2], other.0[2]),
                    vaddq_f32(self.0[3], other.0[3]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe {
                Self([
                    vmulq_f32(self.0[0], other.0[0]),
                    vmulq_f32(self.0[1], other.0[1]),
                    vmulq_f32(self.0[2], other.0[2]),
                    vmulq_f32(self.0[3], other.0[3]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe {
                Self([
                    vmaxq_f32(self.0[0], other.0[0]),
                    vmaxq_f32(self.0[1], other.0[1]),
                    vmaxq_f32(self.0[2], other.0[2]),
                    vmaxq_f32(self.0[3], other.0[3]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            unsafe {
                Self([
                    vminq_f32(vmaxq_f32(self.0[0], low.0[0]), high.0[0]),
                    vminq_f32(vmaxq_f32(self.0[1], low.0[1]), high.0[1]),
                    vminq_f32(vmaxq_f32(self.0[2], low.0[2]), high.0[2]),
                    vminq_f32(vmaxq_f32(self.0[3], low.0[3]), high.0[3]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn between(self, low: Self, high: Self, value: Self) -> Self {
            Self(std::array::from_fn(|part| unsafe {
                let inside = vandq_u32(
                    vcltq_f32(low.0[part], self.0[part]),
                    vcltq_f32(self.0[part], high.0[part]),
                );
                vreinterpretq_f32_u32(vandq_u32(inside, vreinterpretq_u32_f32(value.0[part])))
            }))
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Quad as NeonLanes;
