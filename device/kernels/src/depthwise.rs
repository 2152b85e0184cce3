//! Depthwise convolution on one block of 16 channels, used for a backbone's own depthwise convolutions and for CLR
//! layers. Also convolutions with narrow groups that divide a block evenly.
//!
//! Input rows `[Wp, 16]` with their zero border, taps `[kh · kw][group i][16 o]`, output rows `[W, 16]`.

use super::{
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Number of pixels that are computed at a time, so that consecutive instructions do not depend on the same sum.
const PIXELS: usize = 4;

/// Returns the starts of runs of `P` pixels that cover a row of `width` pixels. The last run may overlap the one before
/// it, and recomputes the same values.
#[inline(always)]
fn runs<const P: usize>(width: usize) -> impl Iterator<Item = usize> {
    (0..width.div_ceil(P)).map(move |index| (index * P).min(width - P))
}

/// Some rows of a depthwise convolution.
pub(crate) struct Depthwise<'a> {
    /// The input, starting at the first tap of the first output pixel.
    pub input: &'a [f32],
    /// Distance between input rows, in f32 values.
    pub pitch: usize,
    /// `[kh · kw][group i][16 o]`.
    pub taps: &'a [f32],
    /// Channels of a group, in and out: 1, 2 or 4.
    pub group: usize,
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// `[16]`: initial values of the sums; zero if `None`.
    pub start: Option<&'a [f32]>,
    /// `[scale 16, bias 16]`, applied to the finished sums.
    pub affine: Option<&'a [f32]>,
    /// Added to the finished sums; it has the layout of `out`.
    pub residual: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    /// Distance between output rows, in f32 values.
    pub out_pitch: usize,
    /// Output rows.
    pub rows: usize,
    /// Output columns.
    pub width: usize,
    pub bounds: Bounds,
}

impl<'a> Depthwise<'a> {
    /// Returns a 3×3 convolution of stride 1 on a plane with a border of one pixel, such as a CLR layer.
    ///
    /// `input` is `[rows + 2, width + 2, 16]`, `taps` are nine, `out` is `[rows, width, 16]`.
    pub(crate) fn bordered(
        input: &'a [f32],
        taps: &'a [f32],
        start: Option<&'a [f32]>,
        [rows, width]: [usize; 2],
        out: &'a mut [f32],
        bounds: Bounds,
    ) -> Self {
        Self {
            input,
            pitch: (width + 2) * LANES,
            taps,
            group: 1,
            kernel: [3; 2],
            stride: [1; 2],
            dilation: [1; 2],
            start,
            affine: None,
            residual: None,
            out,
            out_pitch: width * LANES,
            rows,
            width,
            bounds,
        }
    }
}

/// Computes the rows.
pub(crate) fn depthwise(isa: Isa, rows: Depthwise<'_>) {
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
    assert_eq!(rows.taps.len(), kernel[0] * kernel[1] * rows.group * LANES);
    assert!(rows.start.is_none_or(|start| start.len() == LANES));
    assert!(rows.affine.is_none_or(|affine| affine.len() == AFFINE_PARAMETERS));
    assert!(rows.residual.is_none_or(|residual| residual.len() >= out));
    assert!(rows.pitch.is_multiple_of(LANES) && rows.out_pitch.is_multiple_of(LANES));
    dispatch(isa, rows);
}

impl Kernel for Depthwise<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (kernel, stride, dilation) = (self.kernel, self.stride[1], self.dilation[1]);
        let rows = Rows {
            simd: s,
            // The initial values of the sums, [scale, bias] for the finished sums, and the values added to these.
            start: self.start.map_or(s.zero(), |start| s.load(&vectors(start)[0])),
            affine: self.affine.map(|affine| {
                let affine = vectors(affine);
                [s.load(&affine[0]), s.load(&affine[1])]
            }),
            residual: self.residual.map(|residual| residual.as_chunks().0),
            low: s.splat(self.bounds.low),
            high: s.splat(self.bounds.high),
        };
        match self.group {
            1 => {}
            2 => return rows.groups::<2>(&mut self),
            4 => return rows.groups::<4>(&mut self),
            width => unreachable!("a group of {width} channels is not narrow"),
        }
        match (kernel, stride, dilation) {
            ([3, 3], 1, 1) => rows.square::<3, 1>(&mut self),
            ([3, 3], 2, 1) => rows.square::<3, 2>(&mut self),
            ([5, 5], 1, 1) => rows.square::<5, 1>(&mut self),
            ([5, 5], 2, 1) => rows.square::<5, 2>(&mut self),
            _ => rows.general(&mut self),
        }
    }
}

/// Initial values and post-operations of the sums, in registers.
struct Rows<'a, S: Simd> {
    simd: S,
    start: S::Vector,
    affine: Option<[S::Vector; 2]>,
    residual: Option<&'a [[f32; LANES]]>,
    low: S::Vector,
    high: S::Vector,
}

impl<S: Simd> Rows<'_, S> {
    /// Computes K × K taps with column stride STEP and no column dilation. The compiler knows every index except the
    /// row's.
    #[inline(always)]
    fn square<const K: usize, const STEP: usize>(&self, of: &mut Depthwise<'_>) {
        let s = self.simd;
        let taps = vectors(of.taps);
        let mut weights = [[s.zero(); K]; K];
        for row in 0..K {
            for column in 0..K {
                weights[row][column] = s.load(&taps[row * K + column]);
            }
        }
        let (pitch, width) = (of.pitch / LANES, of.width);
        let input = of.input.as_chunks().0;
        for y in 0..of.rows {
            let first = y * of.stride[0];
            let lines: [&[[f32; LANES]]; K] = std::array::from_fn(|row| {
                let start = (first + row * of.dilation[0]) * pitch;
                &input[start..start + (width - 1) * STEP + K]
            });
            let at = y * of.out_pitch / LANES;
            let out = &mut vectors_mut(&mut of.out[at * LANES..(at + width) * LANES])[..width];
            // Loops in place of `for_each`, because a closure that captures vectors is not always inlined.
            if width >= PIXELS {
                for x in runs::<PIXELS>(width) {
                    self.pixels::<K, STEP, PIXELS>(&weights, &lines, x, at, out);
                }
            } else if width >= 2 {
                for x in runs::<2>(width) {
                    self.pixels::<K, STEP, 2>(&weights, &lines, x, at, out);
                }
            } else {
                self.pixels::<K, STEP, 1>(&weights, &lines, 0, at, out);
            }
        }
    }

    /// Computes P pixels from column `x` on, in the row that starts at `at`.
    #[inline(always)]
    fn pixels<const K: usize, const STEP: usize, const P: usize>(
        &self,
        weights: &[[S::Vector; K]; K],
        lines: &[&[[f32; LANES]]; K],
        x: usize,
        at: usize,
        out: &mut [[f32; LANES]],
    ) {
        let mut sums = [self.start; P];
        for row in 0..K {
            // The compiler knows this length, so the indices below need no bounds checks.
            let line = &lines[row][x * STEP..x * STEP + (P - 1) * STEP + K];
            for column in 0..K {
                for pixel in 0..P {
                    let value = self.simd.load(&line[pixel * STEP + column]);
                    sums[pixel] = sums[pixel].fma(value, weights[row][column]);
                }
            }
        }
        self.finish(sums, at + x, &mut out[x..x + P]);
    }

    /// Computes groups of WIDTH channels. Every sum takes WIDTH inputs per tap.
    #[inline(always)]
    fn groups<const WIDTH: usize>(&self, of: &mut Depthwise<'_>) {
        // As many pixels at a time as registers allow for their inputs and sums.
        if S::REGISTERS >= 32 {
            self.group_rows::<WIDTH, 8>(of);
        } else {
            self.group_rows::<WIDTH, 3>(of);
        }
    }

    #[inline(always)]
    fn group_rows<const WIDTH: usize, const P: usize>(&self, of: &mut Depthwise<'_>) {
        let width = of.width;
        for y in 0..of.rows {
            if width >= P {
                for x in runs::<P>(width) {
                    self.group_pixels::<WIDTH, P>(of, y, x);
                }
            } else if width >= 3 {
                for x in runs::<3>(width) {
                    self.group_pixels::<WIDTH, 3>(of, y, x);
                }
            } else {
                for x in 0..width {
                    self.group_pixels::<WIDTH, 1>(of, y, x);
                }
            }
        }
    }

    #[inline(always)]
    fn group_pixels<const WIDTH: usize, const P: usize>(&self, of: &mut Depthwise<'_>, y: usize, x: usize) {
        let s = self.simd;
        let pitch = of.pitch / LANES;
        let input = of.input.as_chunks::<LANES>().0;
        let mut taps = vectors(of.taps).chunks_exact(WIDTH);
        let mut sums = [self.start; P];
        for row in 0..of.kernel[0] {
            let line = &input[(y * of.stride[0] + row * of.dilation[0]) * pitch + x * of.stride[1]..];
            for column in 0..of.kernel[1] {
                let line = &line[column * of.dilation[1]..];
                let mut values = [s.zero(); P];
                for pixel in 0..P {
                    values[pixel] = s.load(&line[pixel * of.stride[1]]);
                }
                let Some(weights) = taps.next() else { continue };
                for index in 0..WIDTH {
                    let weight = s.load(&weights[index]);
                    for pixel in 0..P {
                        sums[pixel] = sums[pixel].fma(values[pixel].repeat::<WIDTH>(index), weight);
                    }
                }
            }
        }
        let at = y * of.out_pitch / LANES + x;
        self.finish(sums, at, &mut of.out.as_chunks_mut().0[at..at + P]);
    }

    /// Any kernel, stride and dilation.
    #[inline(always)]
    fn general(&self, of: &mut Depthwise<'_>) {
        for y in 0..of.rows {
            if of.width >= 8 && of.stride[1] == 1 && S::REGISTERS >= 32 {
                for x in runs::<8>(of.width) {
                    self.any::<1, 8>(of, y, x);
                }
            } else if of.width >= PIXELS && of.stride[1] == 1 {
                for x in runs::<PIXELS>(of.width) {
                    self.any::<1, PIXELS>(of, y, x);
                }
            } else if of.width >= PIXELS {
                for x in runs::<PIXELS>(of.width) {
                    self.any::<0, PIXELS>(of, y, x);
                }
            } else {
                for x in 0..of.width {
                    self.any::<0, 1>(of, y, x);
                }
            }
        }
    }

    /// Computes P pixels of row `y` from column `x` on. Their inputs are STEP columns apart (0: according to the
    /// stride).
    #[inline(always)]
    fn any<const STEP: usize, const P: usize>(&self, of: &mut Depthwise<'_>, y: usize, x: usize) {
        let stride = if STEP == 0 { of.stride[1] } else { STEP };
        let pitch = of.pitch / LANES;
        let input = of.input.as_chunks().0;
        let mut taps = vectors(of.taps).iter();
        let mut sums = [self.start; P];
        for row in 0..of.kernel[0] {
            let line = &input[(y * of.stride[0] + row * of.dilation[0]) * pitch + x * stride..];
            for (column, weight) in (0..of.kernel[1]).zip(&mut taps) {
                let values = &line[column * of.dilation[1]..][..=(P - 1) * stride];
                let weight = self.simd.load(weight);
                for pixel in 0..P {
                    sums[pixel] = sums[pixel].fma(self.simd.load(&values[pixel * stride]), weight);
                }
            }
        }
        let at = y * of.out_pitch / LANES + x;
        self.finish(sums, at, &mut of.out.as_chunks_mut().0[at..at + P]);
    }

    /// Writes P finished pixels. `at` is the index of the first one in the residual.
    #[inline(always)]
    fn finish<const P: usize>(&self, mut sums: [S::Vector; P], at: usize, out: &mut [[f32; LANES]]) {
        if let Some([scale, bias]) = self.affine {
            for pixel in 0..P {
                sums[pixel] = bias.fma(sums[pixel], scale);
            }
        }
        if let Some(residual) = self.residual {
            let residual = &residual[at..at + P];
            for pixel in 0..P {
                sums[pixel] = sums[pixel].add(self.simd.load(&residual[pixel]));
            }
        }
        let out = &mut out[..P];
        for pixel in 0..P {
            sums[pixel].clamp(self.low, self.high).store(&mut out[pixel]);
        }
    }
}
