//! Copies of the rows that a depthwise convolution reads, with padding around them.

use std::ops::Range;

use super::{
    conv::Int8Conv,
    weights::{Columns, Packed},
};
use crate::simd::LANES;

/// Bytes of the copied input rows, which should stay in the L1 cache.
const BAND_BYTES: usize = 24 << 10;

/// The layout of the copied input rows, which have the padding around them.
pub(super) struct Lines {
    /// Output rows per copy.
    pub band: usize,
    /// Bytes from row to row.
    pub row: usize,
    /// Bytes of a row that come from the input.
    pub inside: Range<usize>,
    /// Bytes that are read beyond the last row.
    pub slack: usize,
}

impl Int8Conv {
    /// Returns the number of input rows (axis 0) or columns of this many outputs.
    pub(super) fn span(&self, axis: usize, outputs: usize) -> usize {
        let shape = &self.weights.shape;
        (outputs - 1) * shape.stride[axis] + (shape.kernel[axis] - 1) * shape.dilation[axis] + 1
    }

    /// Returns the layout of the copied rows.
    pub(super) fn lines(&self, columns: Columns) -> Lines {
        let stride = self.weights.shape.stride;
        let used = self.span(1, self.output[1]) * LANES;
        // Rows start at cache lines, so that fewer reads of four columns cross one.
        let row = used.next_multiple_of(4 * LANES);
        let left = (self.pads[1] * LANES).min(used);
        let fitting = (BAND_BYTES / row + stride[0]).saturating_sub(self.span(0, 1)) / stride[0];
        Lines {
            // Even, for kernels that compute pairs of rows.
            band: fitting.max(4).min(self.output[0]).next_multiple_of(2),
            row,
            inside: left..(left + self.input[1] * LANES).min(used),
            // Columns of outputs up to the next four, and of taps up to the next four.
            slack: (3 * stride[1] + columns.quads * columns.distance + 4) * LANES,
        }
    }

    /// Calls `work` with a buffer for [`Int8Conv::convolve`], which only a depthwise convolution uses. It is filled with padding,
    /// and only the part inside the rows changes.
    pub(super) fn lend_lines(&self, padding: u8, work: impl FnOnce(&mut [u8])) {
        let Packed::Depthwise { columns, .. } = self.weights.packed else {
            return work(&mut []);
        };
        let Lines { band, row, slack, .. } = self.lines(columns);
        self.arena.lend_bytes(self.span(0, band) * row + slack, |lines| {
            lines.fill(padding);
            work(lines);
        });
    }
}
