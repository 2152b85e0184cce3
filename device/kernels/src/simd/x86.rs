//! AVX-512 (one register per vector) and AVX2 with FMA (two registers per vector).
//!
//! x86's min and max return the second operand if either is NaN, so the bound is the first operand.

mod int8;
mod vnni512;

use std::arch::x86_64::{
    __m256, __m512, _CMP_LT_OQ, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps,
    _mm256_andnot_ps, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_ps,
    _mm256_permutevar8x32_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_mask_cmp_ps_mask, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_permutevar_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{Kernel, LANES, Simd, Vector};
pub(crate) use int8::{Avx2Int8, AvxVnni};
pub(crate) use vnni512::Vnni512;

/// Evaluates intrinsics of an instruction set. A token or a vector of it must be available at the call.
macro_rules! proven {
    ($($intrinsics:tt)*) => {
        // SAFETY: a token exists only if detection found the instructions, and a vector exists only if a token created
        // it; pointers come from arrays of sixteen f32.
        unsafe { $($intrinsics)* }
    };
}

/// The proof of AVX-512F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

/// The proof of AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx512 {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && Avx2::detect().is_some()).then_some(Self(()))
    }
}

impl Avx2 {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Sixteen f32 in one register.
#[derive(Clone, Copy)]
pub(crate) struct Register(__m512);

/// Sixteen f32 in two registers.
#[derive(Clone, Copy)]
pub(crate) struct Pair(__m256, __m256);

impl Simd for Avx512 {
    type Vector = Register;
    const REGISTERS: usize = 32;
    #[inline(always)]
    fn splat(self, value: f32) -> Register {
        proven! { Register(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Register {
        proven! { Register(_mm512_loadu_ps(from.as_ptr())) }
    }
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        proven! { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(self, kernel) }
    }
}

impl Vector for Register {
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        proven! { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        proven! { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        proven! { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        proven! { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        proven! { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        proven! { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        proven! { Self(_mm512_max_ps(other.0, self.0)) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        proven! { Self(_mm512_min_ps(other.0, self.0)) }
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        proven! {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound.0);
            Self(_mm512_mask_blend_ps(below, no.0, yes.0))
        }
    }
    #[inline(always)]
    fn repeat<const WIDTH: usize>(self, index: usize) -> Self {
        let lanes: [i32; LANES] = std::array::from_fn(|lane| (lane / WIDTH * WIDTH + index) as i32);
        proven! {
            // A permutation within four lanes, which is the faster instruction.
            Self(_mm512_permutevar_ps(self.0, _mm512_loadu_si512(lanes.as_ptr().cast())))
        }
    }
    #[inline(always)]
    fn scale_by_power(self, n: Self) -> Self {
        proven! { Self(_mm512_scalef_ps(self.0, n.0)) }
    }
    #[inline(always)]
    fn between(self, low: Self, high: Self, value: Self) -> Self {
        proven! {
            let above = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(low.0, self.0);
            let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, self.0, high.0);
            Self(_mm512_maskz_mov_ps(inside, value.0))
        }
    }
}

impl Simd for Avx2 {
    type Vector = Pair;
    const REGISTERS: usize = 8;
    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        proven! { Pair(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Pair {
        proven! { Pair(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[8..].as_ptr())) }
    }
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        proven! { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(self, kernel) }
    }
}

impl Pair {
    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }
}

impl Vector for Pair {
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        proven! {
            _mm256_storeu_ps(to.as_mut_ptr(), self.0);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), self.1);
        }
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        proven! { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_add_ps(a, b) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_sub_ps(a, b) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_mul_ps(a, b) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_div_ps(a, b) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_max_ps(b, a) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| proven! { _mm256_min_ps(b, a) })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        let half = |x, bound, yes, no| {
            proven! {
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(x, bound);
                _mm256_or_ps(_mm256_and_ps(below, yes), _mm256_andnot_ps(below, no))
            }
        };
        Self(half(self.0, bound.0, yes.0, no.0), half(self.1, bound.1, yes.1, no.1))
    }
    #[inline(always)]
    fn repeat<const WIDTH: usize>(self, index: usize) -> Self {
        let lanes: [i32; 8] = std::array::from_fn(|lane| (lane / WIDTH * WIDTH + index) as i32);
        proven! {
            let lanes = _mm256_loadu_si256(lanes.as_ptr().cast());
            Self(_mm256_permutevar8x32_ps(self.0, lanes), _mm256_permutevar8x32_ps(self.1, lanes))
        }
    }
    #[inline(always)]
    fn scale_by_power(self, n: Self) -> Self {
        // The exponent field of 2^n.
        self.with(n, |value, n| {
            proven! {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            }
        })
    }
    #[inline(always)]
    fn between(self, low: Self, high: Self, value: Self) -> Self {
        let half = |x, low, high, value| {
            proven! {
                let inside = _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(low, x), _mm256_cmp_ps::<_CMP_LT_OQ>(x, high));
                _mm256_and_ps(inside, value)
            }
        };
        Self(
            half(self.0, low.0, high.0, value.0),
            half(self.1, low.1, high.1, value.1),
        )
    }
}
