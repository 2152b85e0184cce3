//! AVX2, and AVX-VNNI where the CPU has it: sums of sixteen i32 in two registers.
//!
//! AVX2 multiplies i16. The four inputs of a step are divided into an even and an odd pair, which takes a shift each and
//! leaves every sum in its place. Products of bytes (`vpmaddubsw`) would saturate.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_unpackhi_epi8, _mm_unpackhi_epi16, _mm_unpacklo_epi8, _mm_unpacklo_epi16,
    _mm256_add_epi32, _mm256_adds_epi16, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
    _mm256_cvtps_epi32, _mm256_dpbusd_avx_epi32, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_max_epi32, _mm256_max_epu8, _mm256_min_epi32, _mm256_min_epu8, _mm256_min_ps, _mm256_packs_epi32,
    _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_srli_epi16, _mm256_storeu_si256, _mm256_sub_epi32,
};

use super::{Avx2, Pair};
use crate::simd::{
    LANES,
    int8::{Int8Kernel, Int8Simd, Rounding, Step},
};

/// The proof of AVX2 and FMA, and of AVX-VNNI with `VNNI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int8Pair<const VNNI: bool>(Avx2);

/// Products of i16.
pub(crate) type Avx2Int8 = Int8Pair<false>;
/// Dot products of four bytes.
pub(crate) type AvxVnni = Int8Pair<true>;

impl Avx2Int8 {
    /// Returns the token.
    pub(crate) fn new(proof: Avx2) -> Self {
        Self(proof)
    }
}

impl AvxVnni {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect(proof: Avx2) -> Option<Self> {
        is_x86_feature_detected!("avxvnni").then_some(Self(proof))
    }
}

/// A [`Rounding`] in registers: the zero point as i16, the bounds as bytes.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    zero_point: __m256i,
    low: __m256i,
    high: __m256i,
}

/// Evaluates intrinsics of the instruction set. A token must be available at the call.
macro_rules! proven {
    ($($intrinsics:tt)*) => {
        // SAFETY: a token exists only if detection found the instructions; pointers come from references to arrays of
        // at least the size that the instructions read or write, and the aligned load's from one with that alignment.
        unsafe { $($intrinsics)* }
    };
}

/// Divides the four bytes of every i32 into even and odd ones, as i16.
macro_rules! split {
    (unsigned $x:expr) => {{
        let x = $x;
        [_mm256_and_si256(x, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(x)]
    }};
    (signed $x:expr) => {{
        let x = $x;
        [
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
            _mm256_srai_epi16::<8>(x),
        ]
    }};
}

impl<const VNNI: bool> Int8Simd for Int8Pair<VNNI> {
    type Float = Avx2;
    type Sums = [__m256i; 2];
    type Dots = [__m256i; 2];
    /// Even and odd inputs; with VNNI, all four and nothing.
    type Quad = [__m256i; 2];
    /// Even and odd inputs of eight channels each; with VNNI, all four and nothing.
    type Columns = [[__m256i; 2]; 2];
    /// As the columns.
    type Weights = [[__m256i; 2]; 2];
    type Range = Range;
    const OFFSET: i32 = 0;
    #[inline(always)]
    fn float(self) -> Avx2 {
        self.0
    }
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [__m256i; 2] {
        proven! { [_mm256_loadu_si256(start.as_ptr().cast()), _mm256_loadu_si256(start[8..].as_ptr().cast())] }
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> [__m256i; 2] {
        proven! {
            let x = _mm256_set1_epi32(i32::from_ne_bytes(x));
            if VNNI { [x, _mm256_setzero_si256()] } else { split!(unsigned x) }
        }
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [[__m256i; 2]; 2] {
        proven! {
            let pixel = |at: usize| -> __m128i { _mm_loadu_si128(x[at * LANES..].as_ptr().cast()) };
            let (a, b, c, d) = (pixel(0), pixel(1), pixel(2), pixel(3));
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let low = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
            let (ab, cd) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            let high = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
            if VNNI {
                [[low, _mm256_setzero_si256()], [high, _mm256_setzero_si256()]]
            } else {
                [split!(unsigned low), split!(unsigned high)]
            }
        }
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [[__m256i; 2]; 2] {
        proven! {
            let low = _mm256_load_si256(step.0.as_ptr().cast());
            let high = _mm256_load_si256(step.0[32..].as_ptr().cast());
            if VNNI {
                [[low, _mm256_setzero_si256()], [high, _mm256_setzero_si256()]]
            } else {
                [split!(signed low), split!(signed high)]
            }
        }
    }
    #[inline(always)]
    fn dot(self, dots: [__m256i; 2], x: [__m256i; 2], w: [[__m256i; 2]; 2]) -> [__m256i; 2] {
        self.dot_columns(dots, [x, x], w)
    }
    #[inline(always)]
    fn dot_columns(self, dots: [__m256i; 2], x: [[__m256i; 2]; 2], w: [[__m256i; 2]; 2]) -> [__m256i; 2] {
        proven! {
            if VNNI {
                return [
                    _mm256_dpbusd_avx_epi32(dots[0], x[0][0], w[0][0]),
                    _mm256_dpbusd_avx_epi32(dots[1], x[1][0], w[1][0]),
                ];
            }
            let half = |dots, x: [__m256i; 2], w: [__m256i; 2]| {
                let even = _mm256_add_epi32(dots, _mm256_madd_epi16(x[0], w[0]));
                _mm256_add_epi32(even, _mm256_madd_epi16(x[1], w[1]))
            };
            [half(dots[0], x[0], w[0]), half(dots[1], x[1], w[1])]
        }
    }
    #[inline(always)]
    fn finish(self, dots: [__m256i; 2]) -> [__m256i; 2] {
        dots
    }
    #[inline(always)]
    fn splat(self, value: i32) -> [__m256i; 2] {
        proven! { [_mm256_set1_epi32(value); 2] }
    }
    #[inline(always)]
    fn widen(self, x: &[u8; LANES]) -> [__m256i; 2] {
        proven! {
            // The low eight bytes of a register are widened.
            let high = std::arch::x86_64::_mm_loadl_epi64(x[8..].as_ptr().cast());
            [_mm256_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())), _mm256_cvtepu8_epi32(high)]
        }
    }
    #[inline(always)]
    fn add(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        proven! { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        proven! { [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    fn clamp(self, a: [__m256i; 2], low: [__m256i; 2], high: [__m256i; 2]) -> [__m256i; 2] {
        proven! {
            [
                _mm256_min_epi32(_mm256_max_epi32(a[0], low[0]), high[0]),
                _mm256_min_epi32(_mm256_max_epi32(a[1], low[1]), high[1]),
            ]
        }
    }
    #[inline(always)]
    fn real(self, sums: [__m256i; 2]) -> Pair {
        proven! { Pair(_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])) }
    }
    #[inline(always)]
    fn round(self, real: Pair) -> [__m256i; 2] {
        // Values that do not fit become −2³¹, which is right for the small ones only.
        proven! {
            let most = _mm256_set1_ps(1_073_741_824.0);
            [_mm256_cvtps_epi32(_mm256_min_ps(real.0, most)), _mm256_cvtps_epi32(_mm256_min_ps(real.1, most))]
        }
    }
    #[inline(always)]
    fn round_small(self, real: Pair) -> [__m256i; 2] {
        proven! { [_mm256_cvtps_epi32(real.0), _mm256_cvtps_epi32(real.1)] }
    }
    #[inline(always)]
    fn range(self, rounding: Rounding) -> Range {
        proven! {
            Range {
                zero_point: _mm256_set1_epi16(i16::from(rounding.zero_point)),
                low: _mm256_set1_epi8(rounding.low as i8),
                high: _mm256_set1_epi8(rounding.high as i8),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: [[__m256i; 2]; 4], range: Range, out: &mut [u8; 4 * LANES]) {
        for (pair, out) in sums.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            proven! {
                // The halves of a register take channels 0…3 and 8…11, 4…7 and 12…15; i16 saturates beyond the bytes.
                let first = _mm256_adds_epi16(_mm256_packs_epi32(pair[0][0], pair[0][1]), range.zero_point);
                let last = _mm256_adds_epi16(_mm256_packs_epi32(pair[1][0], pair[1][1]), range.zero_point);
                let bytes = _mm256_packus_epi16(first, last);
                let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, range.low), range.high);
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(bytes, order));
            }
        }
    }
    #[inline(always)]
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avxvnni,avx2,fma")]
        fn with_vnni<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx2,fma")]
        fn compiled<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { if VNNI { with_vnni(self, kernel) } else { compiled(self, kernel) } }
    }
    #[inline(always)]
    fn call<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Int8Kernel>(simd: Avx2Int8, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(Int8Pair(self.0), kernel) }
    }
}
