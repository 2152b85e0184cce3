//! A convolution followed by an adapter's CLR layer in f32, with a sliding band of rows between them.

use std::ops::Range;

use super::{
    conv::{Int8Conv, Part, Source},
    put::{Producer, Put, Results, fours, produce},
    target::{Post, Target},
    tile::MAX_BLOCKS,
    workspace::{Band, SLACK, Workspace},
};
use crate::{
    band::bands,
    rows::CLR_PARAMETERS,
    simd::{
        LANES, Simd, Vector,
        int8::{Int8Kernel, Int8Simd, Level, Real, dispatch},
    },
};

impl Int8Conv {
    /// Computes the convolution's rows into a sliding band with a border of zeros, and applies the CLR layer to the band
    /// to get the output. `parameters` are `[9 taps][16]`, bias `[16]` per output block.
    pub(super) fn clr(
        &self,
        source: &Source<'_>,
        part: &Part<'_>,
        parameters: &[f32],
        to: &mut [Target<'_>],
        workspace: &mut Workspace<'_>,
    ) {
        let [height, width] = self.output;
        let count = to.len();
        let Band { rows: band, row, plane } = workspace.band;
        // Taken out, because the convolution needs the other buffer.
        let buffer = std::mem::take(&mut workspace.reals);
        // The band has a border of zeros. Rows before have replaced its first row; the last row follows when the image ends.
        for plane in buffer.chunks_exact_mut(plane) {
            plane[..row].fill(0.0);
        }
        for step in bands(part.rows.clone(), height, band) {
            for plane in buffer.chunks_exact_mut(plane) {
                step.advance(plane, row);
            }
            if !step.sums.is_empty() {
                let inside = step.inside(row);
                let mut rows: [Target<'_>; MAX_BLOCKS] = std::array::from_fn(|_| Target::empty());
                for (rows, plane) in rows.iter_mut().zip(buffer.chunks_exact_mut(plane)) {
                    *rows = Target::Real(&mut plane[inside.clone()], &[]);
                }
                let sums = Part {
                    rows: step.sums,
                    pitch: width + 2,
                    affine: &[],
                    post: Post::Nothing,
                    ..*part
                };
                self.convolve(source, &sums, &mut rows[..count], workspace);
            }
            let [start, end] = [step.outputs.start, step.outputs.end].map(|y| y - part.rows.start);
            let pixels = start * width..end * width;
            let parameters = parameters.chunks_exact(CLR_PARAMETERS);
            for ((plane, to), parameters) in buffer.chunks_exact(plane).zip(&mut *to).zip(parameters) {
                let rows = end - start;
                apply(
                    part.level,
                    plane,
                    parameters,
                    [rows, width],
                    part.post,
                    to,
                    pixels.clone(),
                );
            }
        }
        workspace.reals = buffer;
    }
}

/// Applies a CLR layer to `plane`, `[rows + 2, width + 2, 16]` and some unused values.
fn apply(
    level: Level,
    plane: &[f32],
    parameters: &[f32],
    size: [usize; 2],
    post: Post,
    to: &mut Target<'_>,
    pixels: Range<usize>,
) {
    assert_eq!(parameters.len(), CLR_PARAMETERS);
    assert!(plane.len() >= (size[0] + 2) * (size[1] + 2) * LANES + SLACK);
    let mut to = to.part(pixels);
    assert_eq!(to.pixels(), size[0] * size[1]);
    dispatch(
        level,
        ClrRows {
            plane,
            parameters,
            size,
            post,
            to: &mut to,
        },
    );
}

struct ClrRows<'a, 'b> {
    plane: &'a [f32],
    parameters: &'a [f32],
    /// Rows, columns of the output.
    size: [usize; 2],
    post: Post,
    to: &'a mut Target<'b>,
}

impl Int8Kernel for ClrRows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        produce(s, self.post, self);
    }
}

impl<S: Int8Simd> Producer<S> for ClrRows<'_, '_> {
    #[inline(always)]
    fn produce<P: Put<S>>(self, s: S, put: P) {
        let f = s.float();
        let parameters: &[[f32; LANES]] = self.parameters.as_chunks().0;
        let mut taps = [f.zero(); 9];
        for tap in 0..9 {
            taps[tap] = f.load(&parameters[tap]);
        }
        let bias = f.load(&parameters[9]);
        let [rows, width] = self.size;
        let pixels: &[[f32; LANES]] = self.plane.as_chunks().0;
        for y in 0..rows {
            let mut lines = [pixels; 3];
            for row in 0..3 {
                lines[row] = &pixels[(y + row) * (width + 2)..];
            }
            if width < 4 {
                put.put(s, four::<S>(s, &lines, 0, &taps, bias), width, y * width, self.to);
                continue;
            }
            for x in fours(width) {
                // A constant number of pixels, because the compiler would move operations into branches.
                put.put(s, four::<S>(s, &lines, x, &taps, bias), 4, y * width + x, self.to);
            }
        }
    }
}

/// Computes four pixels from column `x` on.
#[inline(always)]
fn four<S: Int8Simd>(s: S, lines: &[&[[f32; LANES]]; 3], x: usize, taps: &[Real<S>; 9], bias: Real<S>) -> Results<S> {
    let mut results = [bias; 4];
    for row in 0..3 {
        let line = &lines[row][x..x + 6];
        for column in 0..3 {
            for p in 0..4 {
                results[p] = results[p].fma(s.float().load(&line[p + column]), taps[row * 3 + column]);
            }
        }
    }
    results
}
