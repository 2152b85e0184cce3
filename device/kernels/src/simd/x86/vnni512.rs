//! AVX-512 with VNNI, BW and VL, and with VBMI where the CPU has it: sums of sixteen i32 in one register.

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_adds_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_loadu_si512, _mm512_max_epi32, _mm512_max_epu8,
    _mm512_min_epi32, _mm512_min_epu8, _mm512_min_ps, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_permutexvar_epi8,
    _mm512_permutexvar_epi32, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_set4_epi32, _mm512_setr_epi32, _mm512_shuffle_epi8, _mm512_storeu_si512, _mm512_sub_epi32,
};

use super::{Avx2, Avx512, Register};
use crate::simd::{
    LANES,
    int8::{Int8Kernel, Int8Simd, Rounding, Step},
};

/// The proof of AVX-512 F, BW, VL and VNNI, and of VBMI with `VBMI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnni512<const VBMI: bool>(Avx512);

impl Avx512 {
    /// Returns the proof of AVX2, which belongs to the proof of AVX-512.
    pub(crate) fn avx2(self) -> Avx2 {
        let Self(()) = self;
        Avx2(())
    }
}

impl Vnni512<false> {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect(proof: Avx512) -> Option<Self> {
        (is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni"))
        .then_some(Self(proof))
    }

    /// Returns a token with VBMI if the CPU supports it.
    pub(crate) fn with_byte_permutations(self) -> Option<Vnni512<true>> {
        is_x86_feature_detected!("avx512vbmi").then_some(Vnni512(self.0))
    }
}

/// A [`Rounding`] in registers: the zero point as i16, the bounds as bytes.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    zero_point: __m512i,
    low: __m512i,
    high: __m512i,
}

/// Evaluates intrinsics of the instruction set. A token must be available at the call.
macro_rules! proven {
    ($($intrinsics:tt)*) => {
        // SAFETY: a token exists only if detection found the instructions; pointers come from references to arrays of
        // the size that the instruction reads or writes, and the aligned load's from one with that alignment.
        unsafe { $($intrinsics)* }
    };
}

impl<const VBMI: bool> Int8Simd for Vnni512<VBMI> {
    type Float = Avx512;
    type Sums = __m512i;
    type Dots = __m512i;
    type Quad = __m512i;
    type Columns = __m512i;
    type Weights = __m512i;
    type Range = Range;
    const OFFSET: i32 = 0;
    #[inline(always)]
    fn float(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> __m512i {
        proven! { _mm512_loadu_si512(start.as_ptr().cast()) }
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> __m512i {
        proven! { _mm512_set1_epi32(i32::from_ne_bytes(x)) }
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> __m512i {
        /// Channel by channel, the positions of its four pixels.
        const TRANSPOSED: [u8; 4 * LANES] = {
            let mut order = [0; 4 * LANES];
            let mut at = 0;
            while at < 4 * LANES {
                order[at] = (at % 4 * LANES + at / 4) as u8;
                at += 1;
            }
            order
        };
        proven! {
            let x = _mm512_loadu_si512(x.as_ptr().cast());
            if VBMI {
                _mm512_permutexvar_epi8(_mm512_loadu_si512(TRANSPOSED.as_ptr().cast()), x)
            } else {
                // Four channels of four pixels to a quarter of the register, then 4 × 4 bytes within the quarters.
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let within = _mm512_set4_epi32(0x0f0b_0703, 0x0e0a_0602, 0x0d09_0501, 0x0c08_0400);
                _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, x), within)
            }
        }
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> __m512i {
        proven! { _mm512_load_si512(step.0.as_ptr().cast()) }
    }
    #[inline(always)]
    fn dot(self, dots: __m512i, x: __m512i, w: __m512i) -> __m512i {
        proven! { _mm512_dpbusd_epi32(dots, x, w) }
    }
    #[inline(always)]
    fn dot_columns(self, dots: __m512i, x: __m512i, w: __m512i) -> __m512i {
        proven! { _mm512_dpbusd_epi32(dots, x, w) }
    }
    #[inline(always)]
    fn finish(self, dots: __m512i) -> __m512i {
        dots
    }
    #[inline(always)]
    fn splat(self, value: i32) -> __m512i {
        proven! { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    fn widen(self, x: &[u8; LANES]) -> __m512i {
        proven! { _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        proven! { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        proven! { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn clamp(self, a: __m512i, low: __m512i, high: __m512i) -> __m512i {
        proven! { _mm512_min_epi32(_mm512_max_epi32(a, low), high) }
    }
    #[inline(always)]
    fn real(self, sums: __m512i) -> Register {
        proven! { Register(_mm512_cvtepi32_ps(sums)) }
    }
    #[inline(always)]
    fn round(self, real: Register) -> __m512i {
        // Values that do not fit become −2³¹, which is right for the small ones only.
        proven! { _mm512_cvtps_epi32(_mm512_min_ps(real.0, _mm512_set1_ps(1_073_741_824.0))) }
    }
    #[inline(always)]
    fn round_small(self, real: Register) -> __m512i {
        proven! { _mm512_cvtps_epi32(real.0) }
    }
    #[inline(always)]
    fn range(self, rounding: Rounding) -> Range {
        proven! {
            Range {
                zero_point: _mm512_set1_epi16(i16::from(rounding.zero_point)),
                low: _mm512_set1_epi8(rounding.low as i8),
                high: _mm512_set1_epi8(rounding.high as i8),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: [__m512i; 4], range: Range, out: &mut [u8; 4 * LANES]) {
        proven! {
            // Every quarter of the register takes four channels of each pixel; i16 saturates beyond the bytes.
            let first = _mm512_adds_epi16(_mm512_packs_epi32(sums[0], sums[1]), range.zero_point);
            let last = _mm512_adds_epi16(_mm512_packs_epi32(sums[2], sums[3]), range.zero_point);
            let bytes = _mm512_packus_epi16(first, last);
            let bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, range.low), range.high);
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_permutexvar_epi32(order, bytes));
        }
    }
    #[inline(always)]
    fn plain_bytes(self, sums: [__m512i; 4], out: &mut [u8; 4 * LANES]) {
        proven! {
            let (first, last) = (_mm512_packs_epi32(sums[0], sums[1]), _mm512_packs_epi32(sums[2], sums[3]));
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, last));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,avx2,fma")]
        fn with_vbmi<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        fn compiled<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { if VBMI { with_vbmi(self, kernel) } else { compiled(self, kernel) } }
    }
    #[inline(always)]
    fn call<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        fn compiled<K: Int8Kernel>(simd: Vnni512<false>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(Vnni512(self.0), kernel) }
    }
}
