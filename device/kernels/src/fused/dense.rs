//! Rows of a dense or grouped convolution, divided into register tiles.

use std::ops::Range;

use super::{FusedConv, MAX_BLOCKS, Source};
use crate::{
    pack::{Reads, uniform},
    rows::AFFINE_PARAMETERS,
    simd::LANES,
    tile::{Tile, tiles},
};

/// Bytes of the weights by which a band of rows is multiplied before the next weights are read.
const WEIGHT_BYTES: usize = 192 << 10;

impl FusedConv {
    pub(super) fn dense(
        &self,
        source: Source<'_>,
        (data, reads, lanes): (&[f32], &[Reads], usize),
        block: usize,
        rows: Range<usize>,
        width: usize,
        mut outs: [&mut [f32]; MAX_BLOCKS],
        pitch: usize,
        affine: Option<&[f32]>,
        residuals: Option<[&[f32]; MAX_BLOCKS]>,
    ) {
        let conv = &*self.conv;
        let count = outs.iter().filter(|out| !out.is_empty()).count();
        let read = reads[block];
        let x_row = source.size[1] * lanes;
        let x_block = source.size[0] * x_row;
        let taps = conv.kernel[0] * conv.kernel[1];
        let per_block = taps * lanes * LANES;
        let w_block = reads.get(block + 1).map_or(0, |next| next.offset - read.offset);
        // Everything that the tiles access is checked once here. Joined rows are complete rows in sequence.
        let joined = width != self.output[1];
        let last = if joined {
            (rows.end * width - 1) * lanes
        } else {
            let y = (rows.end - 1) * conv.stride[0] + (conv.kernel[0] - 1) * conv.dilation[0];
            let x = (width - 1) * conv.stride[1] + (conv.kernel[1] - 1) * conv.dilation[1];
            assert!(y < source.size[0] && x < source.size[1]);
            y * x_row + x * lanes
        };
        assert!((read.first + read.blocks - 1) * x_block + last < source.x.len());
        let end = read.offset + (count - 1) * w_block + read.channels(lanes) * taps * LANES;
        assert!(end <= data.len() && (count == 1 || uniform(reads)));
        assert!(
            outs[..count]
                .iter()
                .all(|out| out.len() >= (rows.len() - 1) * pitch + width * LANES)
        );
        assert!(residuals.is_none_or(|all| all[..count].iter().zip(&outs).all(|(one, out)| one.len() == out.len())));
        assert!(affine.is_none_or(|affine| affine.len() >= count * AFFINE_PARAMETERS));

        // Adjacent columns of the single input block are contiguous, so a row of taps is one long run of channels.
        let alone = conv.in_channels == lanes && read.channels(lanes) == lanes;
        let (kernel, run, last_run) = if alone && conv.dilation[1] == 1 {
            ([conv.kernel[0], 1], conv.kernel[1] * lanes, conv.kernel[1] * lanes)
        } else {
            (conv.kernel, lanes, read.last)
        };
        let kernels = tiles(self.isa, count, conv.stride[1] * lanes);
        let pieces = width.div_ceil(kernels.len());
        let chunk = (WEIGHT_BYTES / (count * per_block * size_of::<f32>())).max(1);
        let targets = outs.each_mut().map(|out| out.as_mut_ptr());
        for from in (0..read.blocks).step_by(chunk) {
            let to = (from + chunk).min(read.blocks);
            let finished = to == read.blocks;
            // Channels that are not read have no weights.
            let skipped = if from == 0 { 0 } else { read.skip * taps * LANES };
            for (index, y) in rows.clone().enumerate() {
                let row = if joined {
                    y * width * lanes
                } else {
                    y * conv.stride[0] * x_row
                };
                let mut column = 0;
                for piece in 0..pieces {
                    let next = width * (piece + 1) / pieces;
                    let at = index * pitch + column * LANES;
                    // SAFETY: the assertions above cover the highest address of every operand: the last tap of the last
                    // pixel of the last row, the end of the last block's weights, and the end of the written rows.
                    unsafe {
                        let tile = Tile {
                            x: source
                                .x
                                .as_ptr()
                                .add((read.first + from) * x_block + row + column * conv.stride[1] * lanes),
                            w: data.as_ptr().add(read.offset + from * per_block - skipped),
                            to: targets.map(|to| to.wrapping_add(at)),
                            residual: residuals
                                .filter(|_| finished)
                                .map_or([std::ptr::null(); MAX_BLOCKS], |all| {
                                    all.map(|one| one.as_ptr().wrapping_add(at))
                                }),
                            affine: affine.filter(|_| finished).map_or(std::ptr::null(), <[f32]>::as_ptr),
                            resume: from > 0,
                            blocks: to - from,
                            lanes: run,
                            last_lanes: if finished { last_run } else { run },
                            skip: if from == 0 { read.skip } else { 0 },
                            kernel,
                            x_block,
                            x_row: conv.dilation[0] * x_row,
                            x_tap: conv.dilation[1] * lanes,
                            x_pixel: conv.stride[1] * lanes,
                            w_block,
                            w_next: count * w_block,
                            low: self.bounds.low,
                            high: self.bounds.high,
                        };
                        kernels[next - column - 1](self.isa, &tile);
                    }
                    column = next;
                }
            }
        }
    }
}
