//! Quantisation, element-wise operations and tables of bytes.

use super::target::Int8Sum;
use crate::{
    Isa,
    simd::{
        LANES, Simd, Vector,
        int8::{Int8Kernel, Int8Simd, Level, Rounding, dispatch},
    },
};

/// Quantises values in blocks: `out = clamp(round(x / scale) + zero_point)` (ONNX `QuantizeLinear`, opset 13), with one
/// correctly rounded division and rounding to nearest even. NaN gives an unspecified byte.
pub fn quantize(isa: Isa, x: &[f32], scale: f32, rounding: Rounding, out: &mut [u8]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(LANES));
    let kernel = Quantize {
        x,
        scale,
        rounding,
        out,
    };
    dispatch(Level::of(isa), kernel);
}

struct Quantize<'a> {
    x: &'a [f32],
    scale: f32,
    rounding: Rounding,
    out: &'a mut [u8],
}

/// Calls `four` for every four pixels of `out`, with the first pixel's index, and for the last ones with a buffer for
/// four pixels, which is then copied.
macro_rules! by_four {
    ($out:expr, |$at:ident, $count:ident, $four:ident| $body:block) => {
        let out: &mut [u8] = $out;
        for (index, out) in out.chunks_mut(4 * LANES).enumerate() {
            let ($at, $count) = (index * 4, out.len() / LANES);
            if let Ok($four) = <&mut [u8; 4 * LANES]>::try_from(&mut *out) {
                $body
            } else {
                let mut bytes = [0; 4 * LANES];
                let $four = &mut bytes;
                $body
                out.copy_from_slice(&bytes[..out.len()]);
            }
        }
    };
}

impl Int8Kernel for Quantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let f = s.float();
        let (scale, range) = (f.splat(self.scale), s.range(self.rounding));
        let x: &[[f32; LANES]] = self.x.as_chunks().0;
        by_four!(self.out, |at, count, four| {
            let mut sums = [s.splat(0); 4];
            for p in 0..count {
                sums[p] = s.round(f.load(&x[at + p]).div(scale));
            }
            s.bytes(sums, range, four);
        });
    }
}

/// Converts to real values: `out = (x − zero_point) · scale` (ONNX `DequantizeLinear`, opset 13).
pub fn dequantize(isa: Isa, x: &[u8], scale: f32, zero_point: u8, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(LANES));
    let kernel = Dequantize {
        x,
        scale,
        zero_point,
        out,
    };
    dispatch(Level::of(isa), kernel);
}

struct Dequantize<'a> {
    x: &'a [u8],
    scale: f32,
    zero_point: u8,
    out: &'a mut [f32],
}

impl Int8Kernel for Dequantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let (scale, zero_point) = (s.float().splat(self.scale), s.splat(i32::from(self.zero_point)));
        for (x, out) in self.x.as_chunks().0.iter().zip(self.out.as_chunks_mut().0) {
            s.real(s.sub(s.widen(x), zero_point)).mul(scale).store(out);
        }
    }
}

/// Quantises the image `[C, H, W]` with up to four channels to `[H, W, 4]`, as [`quantize`]. Bytes beyond the channels are
/// the zero point.
pub fn quantize_image(isa: Isa, planes: &[f32], channels: usize, scale: f32, zero_point: u8, out: &mut [u8]) {
    assert!((1..=4).contains(&channels));
    assert!(planes.len().is_multiple_of(channels) && planes.len() / channels * 4 == out.len());
    let kernel = QuantizeImage {
        planes,
        channels,
        scale,
        zero_point,
        out,
    };
    dispatch(Level::of(isa), kernel);
}

struct QuantizeImage<'a> {
    planes: &'a [f32],
    channels: usize,
    scale: f32,
    zero_point: u8,
    out: &'a mut [u8],
}

impl Int8Kernel for QuantizeImage<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let f = s.float();
        let (scale, range) = (f.splat(self.scale), s.range(Rounding::new(self.zero_point)));
        let plane = self.planes.len() / self.channels;
        for (index, out) in self.out.chunks_mut(4 * LANES).enumerate() {
            // Sixteen pixels of each channel.
            let first = index * LANES;
            let mut sums = [s.splat(0); 4];
            for channel in 0..4 {
                if channel < self.channels {
                    let values = &self.planes[channel * plane..][..plane][first..];
                    let values = values.first_chunk().copied().unwrap_or_else(|| {
                        let mut last = [0.0; LANES];
                        last[..values.len()].copy_from_slice(values);
                        last
                    });
                    sums[channel] = s.round(f.load(&values).div(scale));
                }
            }
            let mut bytes = [0; 4 * LANES];
            s.bytes(sums, range, &mut bytes);
            let mut pixels = [0; 4 * LANES];
            for pixel in 0..LANES {
                for channel in 0..4 {
                    pixels[pixel * 4 + channel] = bytes[channel * LANES + pixel];
                }
            }
            out.copy_from_slice(&pixels[..out.len()]);
        }
    }
}

/// A summand of [`add_bytes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summand<'a> {
    /// Bytes in blocks.
    pub x: &'a [u8],
    /// The zero point.
    pub zero_point: u8,
    /// The scale, divided by the output's.
    pub scale: f32,
}

/// Adds two maps: `r = fma(right − z_right, s_right, (left − z_left) · s_left)`, `out = clamp(round(r) + zero_point)`
/// (ONNX `DequantizeLinear`, `Add`, `QuantizeLinear`).
pub fn add_bytes(isa: Isa, left: Summand<'_>, right: Summand<'_>, rounding: Rounding, out: &mut [u8]) {
    assert!(left.x.len() == out.len() && right.x.len() == out.len() && out.len().is_multiple_of(LANES));
    let kernel = Add {
        left,
        right,
        rounding,
        out,
    };
    dispatch(Level::of(isa), kernel);
}

struct Add<'a> {
    left: Summand<'a>,
    right: Summand<'a>,
    rounding: Rounding,
    out: &'a mut [u8],
}

impl Int8Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let range = s.range(self.rounding);
        let zero_point = s.splat(i32::from(self.left.zero_point));
        let scale = s.float().splat(self.left.scale);
        let right = Int8Sum {
            zero_point: self.right.zero_point,
            scale: self.right.scale,
            inner: None,
        };
        let lefts: &[[u8; LANES]] = self.left.x.as_chunks().0;
        let rights: &[[u8; LANES]] = self.right.x.as_chunks().0;
        by_four!(self.out, |at, count, four| {
            let mut sums = [s.splat(0); 4];
            for p in 0..count {
                let left = s.real(s.sub(s.widen(&lefts[at + p]), zero_point)).mul(scale);
                sums[p] = s.round(right.add(s, left, s.widen(&rights[at + p])));
            }
            s.bytes(sums, range, four);
        });
    }
}

/// Replaces every byte by its entry in a table: an activation between two quantised values, or another quantisation.
pub fn lookup(table: &[u8; 256], x: &[u8], out: &mut [u8]) {
    assert_eq!(x.len(), out.len());
    for (x, out) in x.iter().zip(out) {
        *out = table[usize::from(*x)];
    }
}
