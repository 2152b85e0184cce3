//! Rows of a depthwise convolution.

use std::ops::Range;

use super::{Site, Source};
use crate::kernels::{
    depthwise::{Depthwise, depthwise},
    lanes::LANES,
    pack::PackedConv,
    rows::Bounds,
};

impl Site {
    /// As [`Site::convolve`], for one block of a depthwise convolution. The rows that it reads are copied into a band
    /// with a zero border first: cheaper than asking at every tap whether it lies in the picture.
    pub(super) fn depthwise(
        &self,
        source: Source<'_>,
        taps: &[f32],
        block: usize,
        rows: Range<usize>,
        width: usize,
        out: &mut [f32],
        out_pitch: usize,
        affine: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) {
        let PackedConv {
            kernel,
            stride,
            dilation,
            ..
        } = *self.conv;
        let [height, columns] = source.size;
        let taps_len = kernel[0] * kernel[1] * LANES;
        let plane = &source.x[block * height * columns * LANES..(block + 1) * height * columns * LANES];
        // In rows of the padded plane.
        let first = rows.start * stride[0];
        let count = (rows.len() - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1;
        let row = (columns + self.pads[1] + self.pads[3]) * LANES;
        let (left, right) = (self.pads[1] * LANES, self.pads[3] * LANES);
        self.arena.lend(count * row, |band| {
            for (y, to) in band.chunks_exact_mut(row).enumerate() {
                match (first + y).checked_sub(self.pads[0]).filter(|&y| y < height) {
                    Some(y) => {
                        to[..left].fill(0.0);
                        to[left..row - right].copy_from_slice(&plane[y * columns * LANES..(y + 1) * columns * LANES]);
                        to[row - right..].fill(0.0);
                    }
                    None => to.fill(0.0),
                }
            }
            let rows = Depthwise {
                input: band,
                pitch: row,
                taps: &taps[block * taps_len..(block + 1) * taps_len],
                kernel,
                stride,
                dilation,
                start: None,
                affine,
                residual,
                out,
                out_pitch,
                rows: rows.len(),
                width,
                bounds: if affine.is_some() { self.bounds } else { Bounds::NONE },
            };
            depthwise(self.level, rows);
        });
    }
}
