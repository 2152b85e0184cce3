//! Rows of a depthwise convolution, or of one with narrow groups.

use std::ops::Range;

use super::{FusedConv, Source};
use crate::{
    depthwise::{Depthwise, depthwise},
    rows::Bounds,
    simd::LANES,
};

/// Planes with fewer columns are copied completely, because their edges would be too large a part of them.
const SMALL: usize = 32;

/// Destination and post-operations of the rows.
pub(super) struct Strip<'a> {
    /// The block of 16 channels.
    pub block: usize,
    /// Output rows.
    pub rows: Range<usize>,
    /// From the first pixel of the first row on.
    pub out: &'a mut [f32],
    /// Distance between rows of `out`, in f32 values.
    pub pitch: usize,
    /// `[scale 16, bias 16]` for finished rows; with `None`, the plain sums are written.
    pub affine: Option<&'a [f32]>,
    /// In the layout of `out`.
    pub residual: Option<&'a [f32]>,
}

impl FusedConv {
    /// Computes rows of one block. Where every tap is inside the plane, the input is read in place. Along the edges,
    /// the input is first copied into workspace with a zero border.
    pub(super) fn depthwise(&self, source: Source<'_>, (taps, group): (&[f32], usize), mut to: Strip<'_>) {
        let width = self.output[1];
        let inside = |axis: usize, end: usize| {
            let (stride, pad) = (self.conv.stride[axis], self.pads[axis]);
            let reach = (self.conv.kernel[axis] - 1) * self.conv.dilation[axis];
            let from = pad.div_ceil(stride);
            let to = (source.size[axis] + pad)
                .checked_sub(reach + 1)
                .map_or(0, |last| last / stride + 1)
                .min(end);
            from.min(to)..to
        };
        let (down, across) = (inside(0, self.output[0]), inside(1, width));
        let rows = to.rows.clone();
        let middle = down.start.clamp(rows.start, rows.end)..down.end.clamp(rows.start, rows.end);
        if width < SMALL || middle.is_empty() || across.is_empty() {
            return self.edge(source, (taps, group), &mut to, rows, 0..width);
        }
        self.edge(source, (taps, group), &mut to, rows.start..middle.start, 0..width);
        self.edge(source, (taps, group), &mut to, middle.end..rows.end, 0..width);
        self.edge(source, (taps, group), &mut to, middle.clone(), 0..across.start);
        self.edge(source, (taps, group), &mut to, middle.clone(), across.end..width);
        let plane = source.size[0] * source.size[1] * LANES;
        let first = (middle.start * self.conv.stride[0] - self.pads[0]) * source.size[1]
            + across.start * self.conv.stride[1]
            - self.pads[1];
        let input = &source.x[to.block * plane + first * LANES..(to.block + 1) * plane];
        self.part(input, source.size[1] * LANES, (taps, group), &mut to, middle, across);
    }

    /// Computes a rectangle of the output from a copy of its inputs.
    fn edge(
        &self,
        source: Source<'_>,
        (taps, group): (&[f32], usize),
        to: &mut Strip<'_>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let [height, width] = source.size;
        let plane = &source.x[to.block * height * width * LANES..(to.block + 1) * height * width * LANES];
        // In rows and columns of the padded plane.
        let span = |axis: usize, range: &Range<usize>| {
            let reach = (self.conv.kernel[axis] - 1) * self.conv.dilation[axis];
            (
                range.start * self.conv.stride[axis],
                (range.len() - 1) * self.conv.stride[axis] + reach + 1,
            )
        };
        let ((top, count), (left, span)) = (span(0, &rows), span(1, &columns));
        // The part of a row that is inside the plane.
        let from = self.pads[1].saturating_sub(left).min(span);
        let until = (width + self.pads[1]).saturating_sub(left).min(span).max(from);
        self.arena.lend(count * span * LANES, |band| {
            for (y, line) in band.chunks_exact_mut(span * LANES).enumerate() {
                match (top + y)
                    .checked_sub(self.pads[0])
                    .filter(|&y| y < height && from < until)
                {
                    Some(y) => {
                        let start = (y * width + left + from - self.pads[1]) * LANES;
                        line[..from * LANES].fill(0.0);
                        line[from * LANES..until * LANES]
                            .copy_from_slice(&plane[start..start + (until - from) * LANES]);
                        line[until * LANES..].fill(0.0);
                    }
                    None => line.fill(0.0),
                }
            }
            self.part(band, span * LANES, (taps, group), to, rows, columns);
        });
    }

    /// Computes a rectangle of the output from `input`, which starts at the rectangle's first tap.
    fn part(
        &self,
        input: &[f32],
        pitch: usize,
        (taps, group): (&[f32], usize),
        to: &mut Strip<'_>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        let start = (rows.start - to.rows.start) * to.pitch + columns.start * LANES;
        let count = self.conv.kernel[0] * self.conv.kernel[1] * group * LANES;
        let part = Depthwise {
            input,
            pitch,
            taps: &taps[to.block * count..(to.block + 1) * count],
            group,
            kernel: self.conv.kernel,
            stride: self.conv.stride,
            dilation: self.conv.dilation,
            start: None,
            affine: to.affine,
            residual: to.residual.map(|residual| &residual[start..]),
            out: &mut to.out[start..],
            out_pitch: to.pitch,
            rows: rows.len(),
            width: columns.len(),
            bounds: if to.affine.is_some() { self.bounds } else { Bounds::NONE },
        };
        depthwise(self.isa, part);
    }
}
