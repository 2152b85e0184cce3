//! Rows of a depthwise convolution. Four columns of the input are transposed to `[16 channels][4 columns]` and give one
//! dot product per kernel row for each of several outputs.

use super::{
    conv::{Int8Conv, Part, Source},
    put::{Affine, Producer, Put, Results, fours, produce},
    target::Target,
    weights::{Columns, Int8Shape},
};
use crate::simd::{
    LANES, Simd,
    int8::{Int8Kernel, Int8Simd, Step, dispatch_columns},
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
        // Rows start at cache lines, so that fewer reads of four columns cross one.
        let used = span(1, part.width) * LANES;
        let row = used.next_multiple_of(4 * LANES);
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
                    copy(line, self.pads[1] * LANES, source.padding, &mut to[..used]);
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
    fill(&mut to[..left], padding);
    to[left..end].copy_from_slice(&from[..end - left]);
    fill(&mut to[end..], padding);
}

/// Fills with padding. A single pixel, the usual case, needs no function call.
fn fill(to: &mut [u8], padding: u8) {
    if to.len() == LANES {
        to.copy_from_slice(&[padding; LANES]);
    } else {
        to.fill(padding);
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
        match (self.shape.kernel[0], quads, shifts, self.shape.stride[1]) {
            (3, 1, 2, 1) => self.square::<S, P, 3, 1, 2, 1>(s, put),
            (3, 1, 1, 2) => self.square::<S, P, 3, 1, 1, 2>(s, put),
            (5, 2, 4, 1) => self.square::<S, P, 5, 2, 4, 1>(s, put),
            (5, 2, 2, 2) => self.square::<S, P, 5, 2, 2, 2>(s, put),
            _ => self.general(s, put),
        }
    }
}

/// Constants of a kernel.
struct Registers<S: Int8Simd, const KH: usize, const SHIFTS: usize, const QUADS: usize> {
    start: S::Dots,
    affine: Affine<S>,
    weights: [[[S::Weights; QUADS]; SHIFTS]; KH],
}

impl DepthwiseRows<'_, '_> {
    /// Computes `KH` kernel rows of `QUADS` quads, each for `SHIFTS` outputs, with column stride `STRIDE`. The compiler
    /// knows every index except the row's and the column's.
    #[inline(always)]
    fn square<S: Int8Simd, P: Put<S>, const KH: usize, const QUADS: usize, const SHIFTS: usize, const STRIDE: usize>(
        &mut self,
        s: S,
        put: P,
    ) {
        let width = self.part.width;
        let affine = Affine::new::<P>(s, self.part.affine, 0);
        let start = s.begin(self.start);
        // As far as registers suffice, the weights stay in them.
        let mut weights = [[[s.weights(&self.steps[0]); QUADS]; SHIFTS]; KH];
        for row in 0..KH {
            for shift in 0..SHIFTS {
                for quad in 0..QUADS {
                    weights[row][shift][quad] = s.weights(&self.steps[(row * SHIFTS + shift) * QUADS + quad]);
                }
            }
        }
        let registers = Registers::<S, KH, SHIFTS, QUADS> { start, affine, weights };
        for y in 0..self.rows {
            let mut lines = [&[][..]; KH];
            for row in 0..KH {
                let from = (y * self.shape.stride[0] + row * self.shape.dilation[0]) * self.row;
                lines[row] = &self.input[from..];
            }
            let at = self.first + y * self.part.pitch;
            for x in fours(width) {
                let results = four::<S, P, KH, QUADS, SHIFTS, STRIDE>(s, &registers, &lines, x);
                put.put(s, results, width.min(4), at + x, self.to);
            }
        }
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
                        let from = (y * self.shape.stride[0] + row * self.shape.dilation[0]) * self.row;
                        let line = &self.input[from..];
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

/// Computes four pixels from column `x` on.
#[inline(always)]
fn four<S: Int8Simd, P: Put<S>, const KH: usize, const QUADS: usize, const SHIFTS: usize, const STRIDE: usize>(
    s: S,
    registers: &Registers<S, KH, SHIFTS, QUADS>,
    lines: &[&[u8]; KH],
    x: usize,
) -> Results<S> {
    let mut dots = [registers.start; 4];
    for row in 0..KH {
        // The compiler knows this length, so the indices below need no bounds checks.
        let line = &lines[row][x * STRIDE * LANES..][..((4 - SHIFTS) * STRIDE + QUADS * 4) * LANES];
        for group in 0..4 / SHIFTS {
            for quad in 0..QUADS {
                let columns = s.columns(window(line, group * SHIFTS * STRIDE + quad * 4));
                for shift in 0..SHIFTS {
                    let weights = registers.weights[row][shift][quad];
                    let dot = &mut dots[group * SHIFTS + shift];
                    *dot = s.dot_columns(*dot, columns, weights);
                }
            }
        }
    }
    let mut results = [s.float().zero(); 4];
    for p in 0..4 {
        results[p] = registers.affine.apply::<P>(s, dots[p]);
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
