//! NEON for the int8 kernels: products of bytes, with inputs as x − 128, so that both factors are signed. Sums of pairs
//! of products are added at the end.

use std::arch::aarch64::{
    int8x8_t, int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_s32, vcombine_s16, vcombine_u8, vcvtnq_s32_f32,
    vcvtq_f32_s32, vdup_n_u8, vdup_n_u32, vdupq_n_s16, vdupq_n_s32, vdupq_n_u8, veor_u8, veorq_u8, vget_high_s8,
    vget_high_u8, vget_high_u16, vget_low_s8, vget_low_u8, vget_low_u16, vld1_u32, vld1q_s8, vld1q_s32, vld1q_u8,
    vmaxq_s32, vmaxq_u8, vminq_s32, vminq_u8, vmovl_u8, vmovl_u16, vmovl_u32, vmull_s8, vpadalq_s16, vpaddq_s32,
    vqaddq_s16, vqmovn_s32, vqmovun_s16, vreinterpret_s8_u8, vreinterpret_u8_u32, vreinterpretq_s8_s16,
    vreinterpretq_s8_u8, vreinterpretq_s16_s8, vreinterpretq_s32_u32, vreinterpretq_s32_u64, vst1q_u8, vsubq_s32,
    vzip1q_s8, vzip1q_s16, vzip2q_s8, vzip2q_s16,
};

use super::{Neon, Quad};
use crate::simd::{
    LANES,
    int8::{Int8Kernel, Int8Simd, Rounding, Step},
};

/// The proof of NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonInt8(Neon);

impl NeonInt8 {
    /// Returns the token.
    pub(crate) fn new(proof: Neon) -> Self {
        Self(proof)
    }
}

/// A [`Rounding`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    zero_point: int16x8_t,
    low: uint8x16_t,
    high: uint8x16_t,
}

/// Returns sixteen values that dot products start from.
#[inline(always)]
pub(super) fn begin(_: NeonInt8, start: &[i32; LANES]) -> [int32x4_t; 4] {
    let at = start.as_ptr();
    proven! { [vld1q_s32(at), vld1q_s32(at.add(4)), vld1q_s32(at.add(8)), vld1q_s32(at.add(12))] }
}

/// Reads four pixels of sixteen channels as `read` does a pixel, and transposes them to `[16 channels][4 pixels]`.
#[inline(always)]
pub(super) fn transposed(_: NeonInt8, x: &[u8; 4 * LANES], read: impl Fn(uint8x16_t) -> int8x16_t) -> [int8x16_t; 4] {
    proven! {
        let (a, b) = (read(vld1q_u8(x.as_ptr())), read(vld1q_u8(x[16..].as_ptr())));
        let (c, d) = (read(vld1q_u8(x[32..].as_ptr())), read(vld1q_u8(x[48..].as_ptr())));
        let ab = vreinterpretq_s16_s8(vzip1q_s8(a, b));
        let cd = vreinterpretq_s16_s8(vzip1q_s8(c, d));
        let ab_high = vreinterpretq_s16_s8(vzip2q_s8(a, b));
        let cd_high = vreinterpretq_s16_s8(vzip2q_s8(c, d));
        [
            vreinterpretq_s8_s16(vzip1q_s16(ab, cd)),
            vreinterpretq_s8_s16(vzip2q_s16(ab, cd)),
            vreinterpretq_s8_s16(vzip1q_s16(ab_high, cd_high)),
            vreinterpretq_s8_s16(vzip2q_s16(ab_high, cd_high)),
        ]
    }
}

/// Subtracts 128 from unsigned bytes.
#[inline(always)]
pub(super) fn signed(x: uint8x16_t) -> int8x16_t {
    proven! { vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80))) }
}

impl Int8Simd for NeonInt8 {
    type Float = Neon;
    type Sums = [int32x4_t; 4];
    /// Two sums per output, of two products each.
    type Dots = [int32x4_t; 8];
    type Quad = int8x8_t;
    type Columns = [int8x16_t; 4];
    type Weights = [int8x16_t; 4];
    type Range = Range;
    const OFFSET: i32 = 128;
    #[inline(always)]
    fn float(self) -> Neon {
        self.0
    }
    #[inline(always)]
    fn begin(self, start: &[i32; LANES]) -> [int32x4_t; 8] {
        let mut dots = [self.splat(0)[0]; 8];
        for pair in 0..8 {
            // The value of an output, and zero.
            proven! {
                let start = vld1_u32(start[2 * pair..].as_ptr().cast());
                dots[pair] = vreinterpretq_s32_u64(vmovl_u32(start));
            }
        }
        dots
    }
    #[inline(always)]
    fn quad(self, x: [u8; 4]) -> int8x8_t {
        proven! {
            let x = vreinterpret_u8_u32(vdup_n_u32(u32::from_ne_bytes(x)));
            vreinterpret_s8_u8(veor_u8(x, vdup_n_u8(0x80)))
        }
    }
    #[inline(always)]
    fn columns(self, x: &[u8; 4 * LANES]) -> [int8x16_t; 4] {
        transposed(self, x, signed)
    }
    #[inline(always)]
    fn weights(self, step: &Step) -> [int8x16_t; 4] {
        let at = step.0.as_ptr();
        proven! { [vld1q_s8(at), vld1q_s8(at.add(16)), vld1q_s8(at.add(32)), vld1q_s8(at.add(48))] }
    }
    #[inline(always)]
    fn dot(self, mut dots: [int32x4_t; 8], x: int8x8_t, w: [int8x16_t; 4]) -> [int32x4_t; 8] {
        for part in 0..4 {
            proven! {
                dots[2 * part] = vpadalq_s16(dots[2 * part], vmull_s8(x, vget_low_s8(w[part])));
                dots[2 * part + 1] = vpadalq_s16(dots[2 * part + 1], vmull_s8(x, vget_high_s8(w[part])));
            }
        }
        dots
    }
    #[inline(always)]
    fn dot_columns(self, mut dots: [int32x4_t; 8], x: [int8x16_t; 4], w: [int8x16_t; 4]) -> [int32x4_t; 8] {
        for part in 0..4 {
            proven! {
                let low = vmull_s8(vget_low_s8(x[part]), vget_low_s8(w[part]));
                let high = vmull_s8(vget_high_s8(x[part]), vget_high_s8(w[part]));
                dots[2 * part] = vpadalq_s16(dots[2 * part], low);
                dots[2 * part + 1] = vpadalq_s16(dots[2 * part + 1], high);
            }
        }
        dots
    }
    #[inline(always)]
    fn finish(self, dots: [int32x4_t; 8]) -> [int32x4_t; 4] {
        proven! {
            [
                vpaddq_s32(dots[0], dots[1]),
                vpaddq_s32(dots[2], dots[3]),
                vpaddq_s32(dots[4], dots[5]),
                vpaddq_s32(dots[6], dots[7]),
            ]
        }
    }
    #[inline(always)]
    fn splat(self, value: i32) -> [int32x4_t; 4] {
        proven! { [vdupq_n_s32(value); 4] }
    }
    #[inline(always)]
    fn widen(self, x: &[u8; LANES]) -> [int32x4_t; 4] {
        proven! {
            let x = vld1q_u8(x.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
            [
                vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
                vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
                vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))),
            ]
        }
    }
    #[inline(always)]
    fn add(self, mut a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
        for part in 0..4 {
            proven! { a[part] = vaddq_s32(a[part], b[part]) }
        }
        a
    }
    #[inline(always)]
    fn sub(self, mut a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
        for part in 0..4 {
            proven! { a[part] = vsubq_s32(a[part], b[part]) }
        }
        a
    }
    #[inline(always)]
    fn clamp(self, mut a: [int32x4_t; 4], low: [int32x4_t; 4], high: [int32x4_t; 4]) -> [int32x4_t; 4] {
        for part in 0..4 {
            proven! { a[part] = vminq_s32(vmaxq_s32(a[part], low[part]), high[part]) }
        }
        a
    }
    #[inline(always)]
    fn real(self, sums: [int32x4_t; 4]) -> Quad {
        proven! {
            Quad([
                vcvtq_f32_s32(sums[0]),
                vcvtq_f32_s32(sums[1]),
                vcvtq_f32_s32(sums[2]),
                vcvtq_f32_s32(sums[3]),
            ])
        }
    }
    #[inline(always)]
    fn round(self, real: Quad) -> [int32x4_t; 4] {
        // The conversion saturates.
        proven! {
            [
                vcvtnq_s32_f32(real.0[0]),
                vcvtnq_s32_f32(real.0[1]),
                vcvtnq_s32_f32(real.0[2]),
                vcvtnq_s32_f32(real.0[3]),
            ]
        }
    }
    #[inline(always)]
    fn range(self, rounding: Rounding) -> Range {
        proven! {
            Range {
                zero_point: vdupq_n_s16(i16::from(rounding.zero_point)),
                low: vdupq_n_u8(rounding.low),
                high: vdupq_n_u8(rounding.high),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: [[int32x4_t; 4]; 4], range: Range, out: &mut [u8; 4 * LANES]) {
        for (sums, out) in sums.iter().zip(out.as_chunks_mut::<LANES>().0) {
            proven! {
                // i16 saturates beyond the bytes.
                let low = vcombine_s16(vqmovn_s32(sums[0]), vqmovn_s32(sums[1]));
                let high = vcombine_s16(vqmovn_s32(sums[2]), vqmovn_s32(sums[3]));
                let low = vqmovun_s16(vqaddq_s16(low, range.zero_point));
                let high = vqmovun_s16(vqaddq_s16(high, range.zero_point));
                let bytes = vminq_u8(vmaxq_u8(vcombine_u8(low, high), range.low), range.high);
                vst1q_u8(out.as_mut_ptr(), bytes);
            }
        }
    }
    #[inline(always)]
    fn run<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn compiled<K: Int8Kernel>(simd: NeonInt8, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(self, kernel) }
    }
    #[inline(always)]
    fn call<K: Int8Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn compiled<K: Int8Kernel>(simd: NeonInt8, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        proven! { compiled(self, kernel) }
    }
}
