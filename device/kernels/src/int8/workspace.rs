//! Workspace of a convolution's tasks: copies of the rows that a depthwise convolution reads, with padding around them, and
//! rows between a convolution and its CLR layer.

use std::ops::Range;

use super::{
    conv::Int8Conv,
    weights::{Columns, Packed},
};
use crate::{Epilogue, simd::LANES};

/// Bytes of the copied input rows, which should stay in the L1 cache.
const LINES_BYTES: usize = 24 << 10;

/// Bytes of the rows between a dense convolution and its CLR layer, half of a small L2 cache: enough rows to amortise
/// reading the weights.
const DENSE_BAND_BYTES: usize = 128 << 10;

/// The same for a depthwise convolution: the L1 cache.
const DEPTHWISE_BAND_BYTES: usize = 24 << 10;

/// Pixels that are read beyond the last row of the band, for up to three outputs that are not written.
pub(super) const SLACK: usize = 3 * LANES;

/// Buffers and their layouts. Tasks change only the parts inside the borders, so the next task finds the borders as they
/// were filled.
pub(super) struct Workspace<'a> {
    pub lines: Lines,
    /// Filled with padding at first. Only a depthwise convolution has any.
    pub bytes: &'a mut [u8],
    pub band: Band,
    /// `[blocks]` planes of [`Band::plane`] values each, zero at first. Only a convolution with a CLR layer has any.
    pub reals: &'a mut [f32],
}

/// The layout of the copied input rows.
#[derive(Clone, Default)]
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

/// The layout of the rows between convolution and CLR layer: `[rows + 2, width + 2, 16]` and [`SLACK`] per block.
#[derive(Clone, Copy, Default)]
pub(super) struct Band {
    /// Output rows.
    pub rows: usize,
    /// Values from row to row.
    pub row: usize,
    /// Values from plane to plane.
    pub plane: usize,
}

impl Int8Conv {
    /// Returns the number of input rows (axis 0) or columns of this many outputs.
    pub(super) fn span(&self, axis: usize, outputs: usize) -> usize {
        let shape = &self.weights.shape;
        (outputs - 1) * shape.stride[axis] + (shape.kernel[axis] - 1) * shape.dilation[axis] + 1
    }

    fn lines(&self, columns: Columns) -> Lines {
        let stride = self.weights.shape.stride;
        let used = self.span(1, self.output[1]) * LANES;
        // Rows start at cache lines, so that fewer reads of four columns cross one.
        let row = used.next_multiple_of(4 * LANES);
        let left = (self.pads[1] * LANES).min(used);
        let fitting = (LINES_BYTES / row + stride[0]).saturating_sub(self.span(0, 1)) / stride[0];
        Lines {
            // Even, for kernels that compute pairs of rows.
            band: fitting.max(4).min(self.output[0]).next_multiple_of(2),
            row,
            inside: left..(left + self.input[1] * LANES).min(used),
            // Columns of outputs up to the next four, and of taps up to the next four.
            slack: (3 * stride[1] + columns.quads * columns.distance + 4) * LANES,
        }
    }

    fn band(&self, bytes: usize, blocks: usize) -> Band {
        let row = (self.output[1] + 2) * LANES;
        let fitting = bytes / (row * blocks * size_of::<f32>());
        let rows = fitting.max(2).min(self.output[0]);
        Band {
            rows,
            row,
            plane: (rows + 2) * row + SLACK,
        }
    }

    /// Calls `work` with a workspace for tasks of up to `blocks` output blocks.
    pub(super) fn lend_workspace(&self, padding: u8, blocks: usize, work: impl FnOnce(&mut Workspace<'_>)) {
        let (lines, bytes) = match self.weights.packed {
            Packed::Dense { .. } => (Lines::default(), DENSE_BAND_BYTES),
            Packed::Depthwise { columns, .. } => (self.lines(columns), DEPTHWISE_BAND_BYTES),
        };
        let band = match self.epilogue {
            Epilogue::Affine => Band::default(),
            Epilogue::Kernel => self.band(bytes, blocks),
        };
        let length = if lines.row == 0 {
            0
        } else {
            self.span(0, lines.band) * lines.row + lines.slack
        };
        self.arena.lend_bytes(length, |bytes| {
            bytes.fill(padding);
            self.arena.lend_aligned(blocks * band.plane, |reals| {
                reals.fill(0.0);
                work(&mut Workspace {
                    lines,
                    bytes,
                    band,
                    reals,
                });
            });
        });
    }
}
