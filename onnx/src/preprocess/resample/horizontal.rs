//! Horizontal pass, on sixteen rows at a time.
//!
//! Rows are transposed to `[column, channel, row]`, so that one weight multiplies 48 neighbouring bytes.

use std::{array, ops::Range};

use super::{
    Rows,
    axis::{Axis, Weights},
    weighted,
};

/// Rows at a time.
const ROWS: usize = 16;
/// Bytes of a transposed column.
const COLUMN: usize = 3 * ROWS;
/// Number of source columns that are transposed at a time, unless one output needs more. They take 24 KiB, which fits
/// in the L1 cache.
const TILE: u32 = 512;

/// Outputs computed from the same transposed columns.
#[derive(Default)]
struct Tile {
    weights: Weights,
    /// For each output, its first source column and the end of its weights.
    taps: Vec<(u32, usize)>,
    /// Columns of the source.
    span: Range<u32>,
}

impl Tile {
    /// Takes outputs from `first` on.
    #[inline(always)]
    fn take(&mut self, axis: &Axis, first: u32) {
        self.weights.fixed.clear();
        self.taps.clear();
        self.span = axis.window(first);
        for output in first..axis.count {
            let end = axis.window(output).end;
            if output > first && end - self.span.start > TILE {
                break;
            }
            let column = axis.append(output, &mut self.weights);
            self.taps.push((column, self.weights.fixed.len()));
            self.span.end = self.span.end.max(end);
        }
    }
}

/// Resamples the rows `rows` along `axis`. Returns `[rows, axis.count, 3]`.
#[inline(always)]
pub(super) fn horizontal(source: Rows<'_>, rows: Range<u32>, axis: &Axis) -> Vec<u8> {
    let line = 3 * axis.count as usize;
    let mut out = vec![0; line * rows.len()];
    let (mut tile, mut columns, mut results) = (Tile::default(), Vec::new(), Vec::new());
    let mut first = 0;
    while first < axis.count {
        tile.take(axis, first);
        let bytes = 3 * tile.span.len();
        columns.resize(bytes.max(columns.len()), [0; ROWS]);
        results.resize(tile.taps.len().max(results.len()), [0; COLUMN]);
        for (block, target) in out.chunks_mut(ROWS * line).enumerate() {
            let count = target.len() / line;
            let top = rows.start + (block * ROWS) as u32;
            // Missing rows at the end are replaced by the last row.
            let lines = array::from_fn(|row| &source.from(top + row.min(count - 1) as u32, tile.span.start)[..bytes]);
            transpose(lines, &mut columns[..bytes]);
            convolve(&tile, columns.as_flattened(), &mut results);
            let results = results[..tile.taps.len()].as_flattened().as_chunks::<ROWS>().0;
            for (row, line) in target.chunks_exact_mut(line).enumerate() {
                for (byte, column) in line[3 * first as usize..].iter_mut().zip(results) {
                    *byte = column[row];
                }
            }
        }
        first += tile.taps.len() as u32;
    }
    out
}

/// Transposes rows in two steps of four, which compilers turn into interleaving instructions.
#[inline(always)]
fn transpose(rows: [&[u8]; ROWS], out: &mut [[u8; ROWS]]) {
    const CHUNK: usize = 64;
    let mut fours = [[[0; 4]; CHUNK]; ROWS / 4];
    for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
        for (fours, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
            let rows = rows.map(|row| &row[chunk * CHUNK..][..out.len()]);
            let fours = fours[..out.len()].iter_mut();
            for ((((four, a), b), c), d) in fours.zip(rows[0]).zip(rows[1]).zip(rows[2]).zip(rows[3]) {
                *four = [*a, *b, *c, *d];
            }
        }
        let out = out.as_flattened_mut().as_chunks_mut::<4>().0.as_chunks_mut::<4>().0;
        let [a, b, c, d] = &fours;
        for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *out = [*a, *b, *c, *d];
        }
    }
}

/// Computes the outputs of a tile, `[output, channel, row]`, from its columns.
#[inline(always)]
fn convolve(tile: &Tile, columns: &[u8], results: &mut [[u8; COLUMN]]) {
    let columns = columns.as_chunks::<COLUMN>().0;
    let mut start = 0;
    for (&(first, end), result) in tile.taps.iter().zip(results) {
        let weights = &tile.weights.fixed[start..end];
        let columns = &columns[(first - tile.span.start) as usize..][..weights.len()];
        start = end;
        *result = weighted(weights, |tap| &columns[tap]);
    }
}
