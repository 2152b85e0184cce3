//! NEON with dot products of four bytes for the int8 kernels. An instruction multiplies four inputs, one lane of a
//! register, by the weights of four outputs: one load of sixteen inputs serves four steps.
//!
//! The intrinsics are not stable in this project's Rust version ([117224], [117223]), hence the assembler.
//!
//! [117224]: https://github.com/rust-lang/rust/issues/117224
//! [117223]: https://github.com/rust-lang/rust/issues/117223

use std::arch::{
    aarch64::{int8x16_t, int32x4_t, uint8x16_t, vdupq_n_u32, vld1q_u8, vreinterpretq_s8_u8, vreinterpretq_u8_u32},
    asm, is_aarch64_feature_detected,
};

use super::{
    delegate::delegate,
    int8::{NeonInt8, begin, signed, transposed},
};
use crate::simd::{
    LANES,
    int8::{Int8Kernel, Int8Simd, Step},
};

/// The proof of dot products of bytes, and of those of unsigned by signed bytes with `MIXED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonDot<const MIXED: bool>(NeonInt8);

/// `FEAT_DotProd`: products of signed bytes, with inputs as x − 128.
pub(crate) type DotProd = NeonDot<false>;
/// `FEAT_I8MM`: products of unsigned by signed bytes.
pub(crate) type I8mm = NeonDot<true>;

impl DotProd {
    /// Returns a token if the CPU supports the instructions.
    pub(crate) fn detect(neon: NeonInt8) -> Option<Self> {
        is_aarch64_feature_detected!("dotprod").then_some(Self(neon))
    }

    /// Returns a token of mixed products if the CPU supports them too.
    pub(crate) fn mixed(self) -> Option<I8mm> {
        is_aarch64_feature_detected!("i8mm").then_some(NeonDot(self.0))
    }
}

/// One instruction `sums += a · b`, where `b` has the given form.
macro_rules! multiply {
    ($instruction:literal, $sums:expr, $a:expr, $b:expr, $form:literal) => {{
        let mut sums: int32x4_t = $sums;
        // SAFETY: a token exists only if detection found the instruction, which has no other effect than its result.
        unsafe {
            asm!(
                concat!($instruction, " {sums:v}.4s, {a:v}.16b, {b:v}", $form),
                sums = inout(vreg) sums, a = in(vreg) $a, b = in(vreg) $b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }};
}

/// The same with lane `$lane` of `b`.
macro_rules! multiply_lane {
    ($instruction:literal, $sums:expr, $a:expr, $b:expr, $lane:expr) => {
        // A constant.
        match $lane {
            0 => multiply!($instruction, $sums, $a, $b, ".4b[0]"),
            1 => multiply!($instruction, $sums, $a, $b, ".4b[1]"),
            2 => multiply!($instruction, $sums, $a, $b, ".4b[2]"),
            _ => multiply!($instruction, $sums, $a, $b, ".4b[3]"),
        }
    };
}

impl<const MIXED: bool> NeonDot<MIXED> {
    /// Returns inputs as the instructions multiply them.
    #[inline(always)]
    fn inputs(x: uint8x16_t) -> int8x16_t {
        if MIXED {
            proven! { vreinterpretq_s8_u8(x) }
        } else {
            signed(x)
        }
    }
}

impl<const MIXED: bool> Int8Simd for NeonDot<MIXED> {
    delegate!();
    type Dots = [int32x4_t; 4];
    /// Sixteen inputs, of which an instruction reads a lane.
    type Quad = int8x16_t;
    type Columns = [int8x16_t; 4];
    type Weights = [int8x16_t; 4];
    const OFFSET: i32 = if MIXED { 0 } else { 128 };
    const FOURS: bool = true;
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [int32x4_t; 4] {
        begin(self.0, start)
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> int8x16_t {
        Self::inputs(proven! { vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(x))) })
    }
    #[inline(always)]
    fn four(self, x: &[u8; LANES]) -> [int8x16_t; 4] {
        [Self::inputs(proven! { vld1q_u8(x.as_ptr()) }); 4]
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [int8x16_t; 4] {
        transposed(self.0, x, Self::inputs)
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [int8x16_t; 4] {
        self.0.weights(step)
    }
    #[inline(always)]
    fn dot(self, dots: [int32x4_t; 4], x: int8x16_t, w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        self.dot_lane::<0>(dots, x, w)
    }
    #[inline(always)]
    fn dot_lane<const LANE: usize>(self, mut dots: [int32x4_t; 4], x: int8x16_t, w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        for part in 0..4 {
            dots[part] = if MIXED {
                multiply_lane!("sudot", dots[part], w[part], x, LANE)
            } else {
                multiply_lane!("sdot", dots[part], w[part], x, LANE)
            };
        }
        dots
    }
    #[inline(always)]
    fn dot_columns(self, mut dots: [int32x4_t; 4], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 4] {
        for part in 0..4 {
            dots[part] = if MIXED {
                multiply!("usdot", dots[part], x[part], w[part], ".16b")
            } else {
                multiply!("sdot", dots[part], x[part], w[part], ".16b")
            };
        }
        dots
    }
    #[inline(always)]
    fn finish(self, dots: [int32x4_t; 4]) -> [int32x4_t; 4] {
        dots
    }
    #[inline(always)]
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon,dotprod,i8mm")]
        fn mixed<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "neon,dotprod")]
        fn compiled<S: Int8Simd, K: Int8Kernel>(simd: S, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { if MIXED { mixed(self, kernel) } else { compiled(self, kernel) } }
    }
}
