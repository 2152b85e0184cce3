//! Vertical pass: weighted sums of rows.

use std::ops::Range;

use super::{
    Rows,
    axis::{Axis, Weights},
    weighted,
};

/// Number of bytes of a row that are summed at a time.
const BLOCK: usize = 64;

/// Resamples the columns `columns` along `axis`. Returns `[axis.count, columns, 3]`.
#[inline(always)]
pub(super) fn vertical(source: Rows<'_>, columns: Range<u32>, axis: &Axis) -> Vec<u8> {
    let line = 3 * columns.len();
    let mut out = vec![0; line * axis.count as usize];
    let mut weights = Weights::default();
    for (output, out) in out.chunks_exact_mut(line).enumerate() {
        weights.fixed.clear();
        let row = axis.append(output as u32, &mut weights);
        let rows = source.from(row, columns.start);
        let weights = &weights.fixed;
        if line < BLOCK {
            for (at, byte) in out.iter_mut().enumerate() {
                [*byte] = block(&rows[at..], source.stride, weights);
            }
            continue;
        }
        // The last block ends at the end of the row, and may overlap the previous one.
        for at in (0..line).step_by(BLOCK).map(|at| at.min(line - BLOCK)) {
            out[at..at + BLOCK].copy_from_slice(&block::<BLOCK>(&rows[at..], source.stride, weights));
        }
    }
    out
}

/// Returns weighted sums of the first bytes of rows that are `stride` bytes apart.
#[inline(always)]
fn block<const BYTES: usize>(rows: &[u8], stride: usize, weights: &[i32]) -> [u8; BYTES] {
    weighted(weights, |tap| {
        rows[tap * stride..]
            .first_chunk()
            .expect("a block is no longer than a row")
    })
}
