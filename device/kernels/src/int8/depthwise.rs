//! Rows of a depthwise convolution. Four columns of the input are transposed to `[16 channels][4 columns]` and give one
//! dot product per kernel row for each of several outputs.

use super::{
    conv::{Int8Conv, Part, Source},
    target::{Target, Writer},
    weights::{Columns, Int8Shape},
};
use crate::simd::{
    LANES, Simd, Vector,
    int8::{Int8Kernel, Int8Simd, Real, Step, dispatch_columns},
};

/// Bytes of the copied input rows, which should stay in the L1 cache.
const BAND_BYTES: usize = 16 << 10;

impl Int8Conv {
    /// Computes some rows of one block, from copies of its input rows that have the padding around them.
    pub(super) fn depthwise(
        &self,
        source: &Source<'_>,
        (steps, columns): (&[Step], Columns),
        part: &Part<'_>,
        to: &mut Target<'_>,
    ) {
        let shape = &self.weights.shape;
        let reach = |axis: usize| (shape.kernel[axis] - 1) * shape.dilation[axis];
        let span = |axis: usize, outputs: usize| (outputs - 1) * shape.stride[axis] + reach(axis) + 1;
        let [height, width] = source.size;
        let plane = &source.x[part.block * height * width * LANES..][..height * width * LANES];
        let row = span(1, part.width) * LANES;
        let per_block = shape.kernel[0] * columns.shifts * columns.quads;
        // Columns that are read beyond the last one: of outputs up to the next four, and of taps up to the next four.
        let slack = (3 * shape.stride[1] + columns.quads * columns.distance + 4) * LANES;
        let fitting = (BAND_BYTES / row).saturating_sub(reach(0)) / shape.stride[0];
        let band = fitting.clamp(4, part.rows.len().max(4));
        let mut from = part.rows.start;
        while from < part.rows.end {
            let until = (from + band).min(part.rows.end);
            let lines = span(0, until - from);
            self.arena.lend_bytes(lines * row + slack, |input| {
                let top = from * shape.stride[0];
                for (line, to) in (top..).zip(input[..lines * row].chunks_exact_mut(row)) {
                    let line = line.checked_sub(self.pads[0]).filter(|&line| line < height);
                    let line = line.map(|line| &plane[line * width * LANES..(line + 1) * width * LANES]);
                    copy(line, self.pads[1] * LANES, source.padding, to);
                }
                let first = (from - part.rows.start) * part.pitch;
                let rows = DepthwiseRows {
                    shape,
                    columns,
                    steps: &steps[part.block * per_block..(part.block + 1) * per_block],
                    input,
                    row,
                    start: &part.start[part.block],
                    part,
                    rows: until - from,
                    first,
                    to,
                };
                dispatch_columns(part.level, rows);
            });
            from = until;
        }
    }
}

/// Copies a row (none: padding only) with `left` bytes of padding before it, and padding after it.
fn copy(from: Option<&[u8]>, left: usize, padding: u8, to: &mut [u8]) {
    let from = from.unwrap_or_default();
    let left = if from.is_empty() { to.len() } else { left.min(to.len()) };
    let end = (left + from.len()).min(to.len());
    to[..left].fill(padding);
    to[left..end].copy_from_slice(&from[..end - left]);
    to[end..].fill(padding);
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
    fn run<S: Int8Simd>(mut self, s: S) {
        let affine = self.part.affine.map(|affine| {
            let parameters = affine.as_chunks().0;
            [s.float().load(&parameters[0]), s.float().load(&parameters[1])]
        });
        let writer = Writer::new(s, self.part.post);
        let Columns { shifts, quads, .. } = self.columns;
        match (self.shape.kernel[0], quads, shifts) {
            (3, 1, 2) => self.all::<S, 3, 1, 2>(s, affine, &writer),
            (3, 1, 1) => self.all::<S, 3, 1, 1>(s, affine, &writer),
            (5, 2, 4) => self.all::<S, 5, 2, 4>(s, affine, &writer),
            (5, 2, 2) => self.all::<S, 5, 2, 2>(s, affine, &writer),
            (_, _, 4) => self.all::<S, 0, 0, 4>(s, affine, &writer),
            (_, _, 2) => self.all::<S, 0, 0, 2>(s, affine, &writer),
            _ => self.all::<S, 0, 0, 1>(s, affine, &writer),
        }
    }
}

impl DepthwiseRows<'_, '_> {
    /// Computes the rows with `SHIFTS` outputs per quad, `QUADS` quads and `KH` kernel rows (0: any number).
    #[inline(always)]
    fn all<S: Int8Simd, const KH: usize, const QUADS: usize, const SHIFTS: usize>(
        &mut self,
        s: S,
        affine: Option<[Real<S>; 2]>,
        writer: &Writer<S>,
    ) {
        let quads = if QUADS == 0 { self.columns.quads } else { QUADS };
        let kernel_rows = if KH == 0 { self.shape.kernel[0] } else { KH };
        let steps = &self.steps[..kernel_rows * SHIFTS * quads];
        let stride = self.shape.stride[1] * LANES;
        let distance = self.columns.distance * LANES;
        let start = s.begin(self.start);
        for y in 0..self.rows {
            for x in (0..self.part.width).step_by(4) {
                let mut dots = [start; 4];
                for row in 0..kernel_rows {
                    let line = y * self.shape.stride[0] + row * self.shape.dilation[0];
                    let line = &self.input[line * self.row + x * stride..];
                    for group in 0..4 / SHIFTS {
                        for quad in 0..quads {
                            let at = group * SHIFTS * stride + quad * distance;
                            let Some(columns) = line.get(at..).and_then(<[u8]>::first_chunk) else {
                                unreachable!("the slack covers all columns")
                            };
                            let columns = s.columns(columns);
                            for shift in 0..SHIFTS {
                                let weights = s.weights(&steps[(row * SHIFTS + shift) * quads + quad]);
                                let dot = &mut dots[group * SHIFTS + shift];
                                *dot = s.dot_columns(*dot, columns, weights);
                            }
                        }
                    }
                }
                let mut results = [s.float().zero(); 4];
                for p in 0..4 {
                    let sum = s.real(s.finish(dots[p]));
                    results[p] = affine.map_or(sum, |[scale, bias]| bias.fma(sum, scale));
                }
                let count = (self.part.width - x).min(4);
                writer.put(results, count, self.first + y * self.part.pitch + x, self.to);
            }
        }
    }
}
