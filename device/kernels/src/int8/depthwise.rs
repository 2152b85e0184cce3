//! Rows of a depthwise convolution. Four columns of the input are transposed to `[16 channels][4 columns]` and give one
//! dot product per kernel row for each of several outputs.

use super::{
    conv::{Int8Conv, Part, Source},
    put::{Affine, Producer, Put, Results, fours, produce},
    target::Target,
    weights::{Columns, Int8Shape},
    workspace::{Lines, Workspace},
};
use crate::simd::{
    LANES, Simd,
    int8::{Int8Kernel, Int8Simd, Step, dispatch_columns},
};

impl Int8Conv {
    /// Computes some rows of one block.
    pub(super) fn depthwise(
        &self,
        source: &Source<'_>,
        (steps, columns): (&[Step], Columns),
        part: &Part<'_>,
        to: &mut Target<'_>,
        workspace: &mut Workspace<'_>,
    ) {
        let shape = &self.weights.shape;
        let Workspace { lines, bytes, .. } = workspace;
        let &mut Lines { band, row, slack, .. } = lines;
        let [height, width] = source.size;
        let plane = &source.x[part.block * height * width * LANES..][..height * width * LANES];
        let per_block = shape.kernel[0] * columns.shifts * columns.quads;
        let start = self.weights.sums[part.block].map(|sum| sum.wrapping_mul(part.offset));
        let mut from = part.rows.start;
        while from < part.rows.end {
            let until = (from + band).min(part.rows.end);
            let count = self.span(0, until - from);
            let top = from * shape.stride[0];
            for (line, to) in (top..).zip(bytes[..count * row].chunks_exact_mut(row)) {
                let to = &mut to[lines.inside.clone()];
                match line.checked_sub(self.pads[0]).filter(|&line| line < height) {
                    Some(line) => to.copy_from_slice(&plane[line * width * LANES..][..to.len()]),
                    // If all rows are copied at once, these contain the padding already.
                    None if part.rows.len() == self.output[0] && self.output[0] <= band => {}
                    None => to.fill(source.padding),
                }
            }
            let rows = DepthwiseRows {
                shape,
                columns,
                steps: &steps[part.block * per_block..(part.block + 1) * per_block],
                input: &bytes[..count * row + slack],
                row,
                start: &start,
                part,
                rows: until - from,
                first: (from - part.rows.start) * part.pitch,
                to,
            };
            dispatch_columns(part.level, rows);
            from = until;
        }
    }
}

/// Some rows of one block.
struct DepthwiseRows<'a, 'b> {
    shape: &'a Int8Shape,
    columns: Columns,
    /// `[kh][shift][quad]`.
    steps: &'a [Step],
    /// Padded rows, and the columns that are read beyond the last one.
    input: &'a [u8],
    /// Bytes of a padded row.
    row: usize,
    start: &'a [i32; LANES],
    part: &'a Part<'a>,
    rows: usize,
    /// The first pixel in the target.
    first: usize,
    to: &'a mut Target<'b>,
}

impl Int8Kernel for DepthwiseRows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        produce(s, self.part.post, self);
    }
}

impl<S: Int8Simd> Producer<S> for DepthwiseRows<'_, '_> {
    #[inline(always)]
    fn produce<P: Put<S>>(mut self, s: S, put: P) {
        let Columns { shifts, quads, .. } = self.columns;
        // Two rows share weights that do not stay in the registers, if there are registers for the sums of both.
        let many = <S::Float as Simd>::REGISTERS >= 32;
        match (self.shape.kernel[0], quads, shifts, self.shape.stride[1]) {
            _ if self.part.width < 4 => self.general(s, put),
            (3, 1, 2, 1) => self.small::<S, P, 3, 1, 2, 1>(s, put),
            (3, 1, 1, 2) => self.small::<S, P, 3, 1, 1, 2>(s, put),
            (_, 2, 4, 1) if many => self.large::<S, P, 2, 4, 1, 2>(s, put),
            (_, 2, 2, 2) if many => self.large::<S, P, 2, 2, 2, 2>(s, put),
            (_, 2, 4, 1) => self.large::<S, P, 2, 4, 1, 1>(s, put),
            (_, 2, 2, 2) => self.large::<S, P, 2, 2, 2, 1>(s, put),
            _ => self.general(s, put),
        }
    }
}

impl DepthwiseRows<'_, '_> {
    /// Computes `KH` kernel rows of `QUADS` quads, each for `SHIFTS` outputs, with column stride `STRIDE`. The weights stay
    /// in registers. The compiler knows every index except the row's and the column's.
    #[inline(always)]
    fn small<S: Int8Simd, P: Put<S>, const KH: usize, const QUADS: usize, const SHIFTS: usize, const STRIDE: usize>(
        &mut self,
        s: S,
        put: P,
    ) {
        let affine = Affine::new::<P>(s, self.part.affine, 0);
        let start = s.begin(self.start);
        let mut weights = [[[s.weights(&self.steps[0]); QUADS]; SHIFTS]; KH];
        for row in 0..KH {
            weights[row] = self.weights(s, row);
        }
        for y in 0..self.rows {
            let mut lines = [&[][..]; KH];
            for row in 0..KH {
                lines[row] = &self.input[self.place(y, row)..];
            }
            let at = self.first + y * self.part.pitch;
            for x in fours(self.part.width) {
                let mut dots = [start; 4];
                for row in 0..KH {
                    let columns = &lines[row][x * STRIDE * LANES..][..span(QUADS, SHIFTS, STRIDE) * LANES];
                    four::<S, QUADS, SHIFTS, STRIDE>(s, &mut dots, columns, &weights[row]);
                }
                put.put(s, finish::<S, P>(s, &affine, dots), 4, at + x, self.to);
            }
        }
    }

    /// Computes any number of kernel rows, and `ROWS` output rows at once.
    #[inline(always)]
    fn large<
        S: Int8Simd,
        P: Put<S>,
        const QUADS: usize,
        const SHIFTS: usize,
        const STRIDE: usize,
        const ROWS: usize,
    >(
        &mut self,
        s: S,
        put: P,
    ) {
        let affine = Affine::new::<P>(s, self.part.affine, 0);
        let start = s.begin(self.start);
        for y in (0..self.rows).step_by(ROWS) {
            for x in fours(self.part.width) {
                let mut dots = [[start; 4]; ROWS];
                for row in 0..self.shape.kernel[0] {
                    let weights: [[S::Weights; QUADS]; SHIFTS] = self.weights(s, row);
                    for r in 0..ROWS {
                        // The last row may be computed again.
                        let y = (y + r).min(self.rows - 1);
                        let from = self.place(y, row) + x * STRIDE * LANES;
                        let columns = &self.input[from..][..span(QUADS, SHIFTS, STRIDE) * LANES];
                        four::<S, QUADS, SHIFTS, STRIDE>(s, &mut dots[r], columns, &weights);
                    }
                }
                for r in 0..ROWS {
                    let at = self.first + (y + r).min(self.rows - 1) * self.part.pitch + x;
                    put.put(s, finish::<S, P>(s, &affine, dots[r]), 4, at, self.to);
                }
            }
        }
    }

    /// Returns the place in the input of kernel row `row` for output row `y`.
    #[inline(always)]
    fn place(&self, y: usize, row: usize) -> usize {
        (y * self.shape.stride[0] + row * self.shape.dilation[0]) * self.row
    }

    /// Reads the weights of a kernel row.
    #[inline(always)]
    fn weights<S: Int8Simd, const QUADS: usize, const SHIFTS: usize>(
        &self,
        s: S,
        row: usize,
    ) -> [[S::Weights; QUADS]; SHIFTS] {
        let steps = &self.steps[row * SHIFTS * QUADS..][..SHIFTS * QUADS];
        let mut weights = [[s.weights(&steps[0]); QUADS]; SHIFTS];
        for shift in 0..SHIFTS {
            for quad in 0..QUADS {
                weights[shift][quad] = s.weights(&steps[shift * QUADS + quad]);
            }
        }
        weights
    }

    /// Computes any kernel.
    #[inline(always)]
    fn general<S: Int8Simd, P: Put<S>>(&mut self, s: S, put: P) {
        let Columns {
            shifts,
            quads,
            distance,
        } = self.columns;
        let stride = self.shape.stride[1];
        let affine = Affine::new::<P>(s, self.part.affine, 0);
        for y in 0..self.rows {
            for x in (0..self.part.width).step_by(4) {
                let mut results = [s.float().zero(); 4];
                for p in 0..4 {
                    let shift = p % shifts;
                    let mut dots = s.begin(self.start);
                    for row in 0..self.shape.kernel[0] {
                        let line = &self.input[self.place(y, row)..];
                        for quad in 0..quads {
                            let columns = s.columns(window(line, (x + p - shift) * stride + quad * distance));
                            let weights = s.weights(&self.steps[(row * shifts + shift) * quads + quad]);
                            dots = s.dot_columns(dots, columns, weights);
                        }
                    }
                    results[p] = affine.apply::<P>(s, dots);
                }
                let count = (self.part.width - x).min(4);
                put.put(s, results, count, self.first + y * self.part.pitch + x, self.to);
            }
        }
    }
}

/// Adds a kernel row to the sums of four pixels. The compiler knows the number of columns, [`span`], so the indices need no
/// bounds checks.
#[inline(always)]
fn four<S: Int8Simd, const QUADS: usize, const SHIFTS: usize, const STRIDE: usize>(
    s: S,
    dots: &mut [S::Dots; 4],
    line: &[u8],
    weights: &[[S::Weights; QUADS]; SHIFTS],
) {
    for group in 0..4 / SHIFTS {
        for quad in 0..QUADS {
            let columns = s.columns(window(line, group * SHIFTS * STRIDE + quad * 4));
            for shift in 0..SHIFTS {
                let dot = &mut dots[group * SHIFTS + shift];
                *dot = s.dot_columns(*dot, columns, weights[shift][quad]);
            }
        }
    }
}

/// Number of columns that are read for four outputs.
const fn span(quads: usize, shifts: usize, stride: usize) -> usize {
    (4 - shifts) * stride + quads * 4
}

/// Returns the results of four pixels.
#[inline(always)]
fn finish<S: Int8Simd, P: Put<S>>(s: S, affine: &Affine<S>, dots: [S::Dots; 4]) -> Results<S> {
    let mut results = [s.float().zero(); 4];
    for p in 0..4 {
        results[p] = affine.apply::<P>(s, dots[p]);
    }
    results
}

/// Returns four pixels from `pixel` on.
#[inline(always)]
fn window(line: &[u8], pixel: usize) -> &[u8; 4 * LANES] {
    let Some(window) = line[pixel * LANES..].first_chunk() else {
        unreachable!("the slack covers all columns")
    };
    window
}
