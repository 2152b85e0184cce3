//! Row kernels: the CLR layer, the depthwise convolution and the per-channel affine, one row of one block of 16
//! channels at a time. A row is `[W, 16]`.

use super::{
    dispatch::{Kernel, dispatch},
    lanes::{LANES, Lanes, Level},
};

/// Bounds of a clamp; infinite ones do nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    /// No bounds.
    pub(crate) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
}

/// `[9 taps][16]` and `[16]` of bias.
pub(crate) const CLR_PARAMETERS: usize = 10 * LANES;
/// `[16]` of scale and `[16]` of bias.
pub(crate) const AFFINE_PARAMETERS: usize = 2 * LANES;

/// One output row of a CLR layer: 3×3 per channel, bias, an optional addend, a clamp.
struct ClrRow<'a> {
    rows: [&'a [f32]; 3],
    parameters: &'a [f32],
    residual: Option<&'a [f32]>,
    out: &'a mut [f32],
    bounds: Bounds,
}

/// Computes one row of a CLR layer. `rows` are the row above, the row and the row below, each `[W + 2, 16]` with a
/// zero pixel at both ends (and zeros throughout where there is no such row).
pub(crate) fn clr_row(
    level: Level,
    rows: [&[f32]; 3],
    parameters: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
    bounds: Bounds,
) {
    assert!(rows.iter().all(|row| row.len() == out.len() + 2 * LANES) && out.len().is_multiple_of(LANES));
    assert!(parameters.len() == CLR_PARAMETERS && residual.is_none_or(|row| row.len() == out.len()));
    dispatch(level, &mut ClrRow { rows, parameters, residual, out, bounds });
}

impl Kernel for ClrRow<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        // SAFETY: `clr_row` has checked every length.
        unsafe {
            let taps = self.parameters.as_ptr();
            let mut weights = [V::splat(0.0); 9];
            for tap in 0..9 {
                weights[tap] = V::load(taps.add(tap * LANES));
            }
            let bias = V::load(taps.add(9 * LANES));
            let (low, high) = (V::splat(self.bounds.low), V::splat(self.bounds.high));
            let rows = [self.rows[0].as_ptr(), self.rows[1].as_ptr(), self.rows[2].as_ptr()];
            for at in (0..self.out.len()).step_by(LANES) {
                let mut sum = bias;
                for row in 0..3 {
                    for column in 0..3 {
                        sum = sum.fma(V::load(rows[row].add(at + column * LANES)), weights[row * 3 + column]);
                    }
                }
                if let Some(residual) = self.residual {
                    sum = sum.add(V::load(residual.as_ptr().add(at)));
                }
                sum.clamp(low, high).store(self.out.as_mut_ptr().add(at));
            }
        }
    }
}

/// What a depthwise row reads.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseInput<'a> {
    /// The block's input plane `[H, W, 16]`.
    pub plane: &'a [f32],
    /// Rows, columns of the plane.
    pub size: [usize; 2],
    /// `[kh · kw][16]`.
    pub taps: &'a [f32],
    /// Rows, columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Top, left.
    pub pads: [usize; 2],
}

/// One output row of a depthwise convolution.
struct DepthwiseRow<'a> {
    input: DepthwiseInput<'a>,
    y: usize,
    affine: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    out: &'a mut [f32],
    bounds: Bounds,
}

/// Computes output row `y` of a depthwise convolution; with `affine` (`[scale 16, bias 16]`) the row is finished,
/// without it holds the bare sums.
pub(crate) fn depthwise_row(
    level: Level,
    input: &DepthwiseInput<'_>,
    y: usize,
    affine: Option<&[f32]>,
    residual: Option<&[f32]>,
    out: &mut [f32],
    bounds: Bounds,
) {
    assert_eq!(input.plane.len(), input.size[0] * input.size[1] * LANES);
    assert!(input.taps.len() == input.kernel[0] * input.kernel[1] * LANES && out.len().is_multiple_of(LANES));
    assert!(affine.is_none_or(|affine| affine.len() == AFFINE_PARAMETERS));
    assert!(residual.is_none_or(|row| row.len() == out.len()));
    dispatch(level, &mut DepthwiseRow { input: *input, y, affine, residual, out, bounds });
}

impl DepthwiseRow<'_> {
    /// Output columns `[from, to)` of which every tap is inside the plane.
    fn interior(&self) -> (usize, usize) {
        let DepthwiseInput { size, kernel, stride, dilation, pads, .. } = self.input;
        let width = self.out.len() / LANES;
        let reach = (kernel[1] - 1) * dilation[1];
        let from = pads[1].div_ceil(stride[1]).min(width);
        // The last column x with x · stride − pad + reach ≤ W − 1.
        let to = (size[1] + pads[1]).checked_sub(reach + 1).map_or(0, |last| last / stride[1] + 1).min(width);
        (from, to.max(from))
    }

    #[inline(always)]
    unsafe fn finish<V: Lanes>(&mut self, mut sum: V, x: usize) {
        // SAFETY: `x` is a column of `out`, lengths are checked by `depthwise_row`.
        unsafe {
            if let Some(affine) = self.affine {
                sum = V::load(affine.as_ptr().add(LANES)).fma(sum, V::load(affine.as_ptr()));
                if let Some(residual) = self.residual {
                    sum = sum.add(V::load(residual.as_ptr().add(x * LANES)));
                }
                sum = sum.clamp(V::splat(self.bounds.low), V::splat(self.bounds.high));
            }
            sum.store(self.out.as_mut_ptr().add(x * LANES));
        }
    }

    #[inline(always)]
    unsafe fn guarded<V: Lanes>(&mut self, x: usize) {
        let DepthwiseInput { plane, size, taps, kernel, stride, dilation, pads } = self.input;
        // SAFETY: a tap is read only where it lies inside the plane.
        unsafe {
            let mut sum = V::splat(0.0);
            for row in 0..kernel[0] {
                let Some(iy) = (self.y * stride[0] + row * dilation[0]).checked_sub(pads[0]) else { continue };
                if iy >= size[0] {
                    continue;
                }
                for column in 0..kernel[1] {
                    let Some(ix) = (x * stride[1] + column * dilation[1]).checked_sub(pads[1]) else { continue };
                    if ix < size[1] {
                        let value = V::load(plane.as_ptr().add((iy * size[1] + ix) * LANES));
                        sum = sum.fma(value, V::load(taps.as_ptr().add((row * kernel[1] + column) * LANES)));
                    }
                }
            }
            self.finish(sum, x);
        }
    }

    #[inline(always)]
    unsafe fn square<V: Lanes, const K: usize>(&mut self, from: usize, to: usize) {
        let DepthwiseInput { plane, size, taps, stride, dilation, pads, .. } = self.input;
        // SAFETY: the caller has made sure that all K × K taps of the columns are inside the plane.
        unsafe {
            let mut weights = [[V::splat(0.0); K]; K];
            for row in 0..K {
                for column in 0..K {
                    weights[row][column] = V::load(taps.as_ptr().add((row * K + column) * LANES));
                }
            }
            let origin = plane.as_ptr().add((self.y * stride[0] - pads[0]) * size[1] * LANES);
            let mut x = from;
            while x < to {
                let first = origin.add((x * stride[1] - pads[1]) * LANES);
                let mut sum = V::splat(0.0);
                for row in 0..K {
                    for column in 0..K {
                        let at = (row * dilation[0] * size[1] + column * dilation[1]) * LANES;
                        sum = sum.fma(V::load(first.add(at)), weights[row][column]);
                    }
                }
                self.finish(sum, x);
                x += 1;
            }
        }
    }
}

impl Kernel for DepthwiseRow<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(&mut self) {
        let DepthwiseInput { size, kernel, stride, dilation, pads, .. } = self.input;
        let width = self.out.len() / LANES;
        let top = self.y * stride[0];
        let whole_rows = top >= pads[0] && top - pads[0] + (kernel[0] - 1) * dilation[0] < size[0];
        let (from, to) = if whole_rows { self.interior() } else { (width, width) };
        // SAFETY: `guarded` checks every tap; `square` gets only columns whose taps all lie inside.
        unsafe {
            for x in 0..from {
                self.guarded::<V>(x);
            }
            match kernel {
                [3, 3] => self.square::<V, 3>(from, to),
                [5, 5] => self.square::<V, 5>(from, to),
                _ => {
                    for x in from..to {
                        self.guarded::<V>(x);
                    }
                }
            }
            for x in to..width {
                self.guarded::<V>(x);
            }
        }
    }
}
