//! The depthwise convolution on one block of 16 channels: a backbone's own depthwise convolution, or a CLR layer.
//!
//! Input rows `[Wp, 16]` with their zero border, taps `[kh · kw][16]`, output rows `[W, 16]`.

use super::{
    dispatch::{Kernel, dispatch},
    lanes::Lanes,
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{LANES, Level},
};

/// Pixels that are computed side by side, so that no sum waits for itself.
const PIXELS: usize = 4;

/// Some rows of a depthwise convolution.
pub(crate) struct Depthwise<'a> {
    /// The first tap of the first output pixel, and everything behind it.
    pub input: &'a [f32],
    /// From one input row to the next, in f32.
    pub pitch: usize,
    /// `[kh · kw][16]`.
    pub taps: &'a [f32],
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// `[16]`: what the sums start from; zero without.
    pub start: Option<&'a [f32]>,
    /// `[scale 16, bias 16]` for the finished sums.
    pub affine: Option<&'a [f32]>,
    /// Added to the finished sums, in the layout of `out`.
    pub residual: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    /// From one output row to the next, in f32.
    pub out_pitch: usize,
    /// Output rows.
    pub rows: usize,
    /// Output columns.
    pub width: usize,
    pub bounds: Bounds,
}

/// Computes the rows.
pub(crate) fn depthwise(level: Level, mut rows: Depthwise<'_>) {
    let Depthwise {
        kernel,
        stride,
        dilation,
        ..
    } = rows;
    let last = ((rows.rows - 1) * stride[0] + (kernel[0] - 1) * dilation[0]) * rows.pitch
        + ((rows.width - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1) * LANES;
    let out = (rows.rows - 1) * rows.out_pitch + rows.width * LANES;
    assert!(rows.input.len() >= last && rows.out.len() >= out);
    assert_eq!(rows.taps.len(), kernel[0] * kernel[1] * LANES);
    assert!(rows.start.is_none_or(|start| start.len() == LANES));
    assert!(rows.affine.is_none_or(|affine| affine.len() == AFFINE_PARAMETERS));
    assert!(rows.residual.is_none_or(|residual| residual.len() >= out));
    dispatch(level, &mut rows);
}

impl Kernel for Depthwise<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        // SAFETY: `depthwise` has checked every length.
        unsafe {
            match (self.kernel, self.stride[1], self.dilation[1]) {
                ([3, 3], 1, 1) => self.square::<V, 3, 1>(),
                ([3, 3], 2, 1) => self.square::<V, 3, 2>(),
                ([5, 5], 1, 1) => self.square::<V, 5, 1>(),
                ([5, 5], 2, 1) => self.square::<V, 5, 2>(),
                _ => self.general::<V>(),
            }
        }
    }
}

impl Depthwise<'_> {
    /// K × K taps, column stride S, no column dilation: every address but the row is known to the compiler.
    #[inline(always)]
    unsafe fn square<V: Lanes, const K: usize, const S: usize>(&mut self) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut weights = [[V::splat(0.0); K]; K];
            for row in 0..K {
                for column in 0..K {
                    weights[row][column] = V::load(self.taps.as_ptr().add((row * K + column) * LANES));
                }
            }
            for y in 0..self.rows {
                let first = self.input.as_ptr().add(y * self.stride[0] * self.pitch);
                let out = y * self.out_pitch;
                let mut x = 0;
                while x + PIXELS <= self.width {
                    self.pixels::<V, K, S, PIXELS>(&weights, first.add(x * S * LANES), out + x * LANES);
                    x += PIXELS;
                }
                while x < self.width {
                    self.pixels::<V, K, S, 1>(&weights, first.add(x * S * LANES), out + x * LANES);
                    x += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pixels<V: Lanes, const K: usize, const S: usize, const P: usize>(
        &mut self,
        weights: &[[V; K]; K],
        first: *const f32,
        out: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut sums = [self.start.map_or(V::splat(0.0), |start| V::load(start.as_ptr())); P];
            for row in 0..K {
                let from = first.add(row * self.dilation[0] * self.pitch);
                for column in 0..K {
                    for pixel in 0..P {
                        let value = V::load(from.add((pixel * S + column) * LANES));
                        sums[pixel] = sums[pixel].fma(value, weights[row][column]);
                    }
                }
            }
            self.finish(sums, out);
        }
    }

    /// Any kernel, stride and dilation.
    #[inline(always)]
    unsafe fn general<V: Lanes>(&mut self) {
        // SAFETY: the caller's contract.
        unsafe {
            for y in 0..self.rows {
                let first = self.input.as_ptr().add(y * self.stride[0] * self.pitch);
                for x in 0..self.width {
                    let mut sum = self.start.map_or(V::splat(0.0), |start| V::load(start.as_ptr()));
                    for row in 0..self.kernel[0] {
                        for column in 0..self.kernel[1] {
                            let at = row * self.dilation[0] * self.pitch
                                + (x * self.stride[1] + column * self.dilation[1]) * LANES;
                            let tap = (row * self.kernel[1] + column) * LANES;
                            sum = sum.fma(V::load(first.add(at)), V::load(self.taps.as_ptr().add(tap)));
                        }
                    }
                    self.finish([sum], y * self.out_pitch + x * LANES);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<V: Lanes, const P: usize>(&mut self, mut sums: [V; P], out: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            if let Some(affine) = self.affine {
                let (scale, bias) = (V::load(affine.as_ptr()), V::load(affine.as_ptr().add(LANES)));
                for pixel in 0..P {
                    sums[pixel] = bias.fma(sums[pixel], scale);
                }
            }
            if let Some(residual) = self.residual {
                for pixel in 0..P {
                    sums[pixel] = sums[pixel].add(V::load(residual.as_ptr().add(out + pixel * LANES)));
                }
            }
            let (low, high) = (V::splat(self.bounds.low), V::splat(self.bounds.high));
            for pixel in 0..P {
                sums[pixel]
                    .clamp(low, high)
                    .store(self.out.as_mut_ptr().add(out + pixel * LANES));
            }
        }
    }
}
