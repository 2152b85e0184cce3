//! Rows of a dense or grouped convolution, divided into register tiles.

use super::{
    conv::{Int8Conv, Part, Source},
    target::{Post, Target},
    tile::{MAX_BLOCKS, Run, Tile, tiles},
};
use crate::{
    pack::{Reads, uniform},
    rows::AFFINE_PARAMETERS,
    simd::{LANES, int8::Step},
};

impl Int8Conv {
    /// Computes some rows of some output blocks.
    pub(super) fn dense(
        &self,
        source: &Source<'_>,
        (steps, reads, lanes): (&[Step], &[Reads], usize),
        part: &Part<'_>,
        to: &mut [Target<'_>],
    ) {
        let shape = &self.weights.shape;
        let Part { block, width, .. } = *part;
        let (kernel, count) = (shape.kernel, to.len());
        let read = reads[block];
        let x_row = source.size[1] * lanes;
        let x_block = source.size[0] * x_row;
        let taps = kernel[0] * kernel[1];
        let w_block = reads.get(block + 1).map_or(0, |next| next.offset - read.offset);
        // Everything that the tiles access is checked once here. Joined rows are complete rows in sequence.
        let joined = width != self.output[1];
        let last = if joined {
            (part.rows.end * width - 1) * lanes
        } else {
            let y = (part.rows.end - 1) * shape.stride[0] + (kernel[0] - 1) * shape.dilation[0];
            let x = (width - 1) * shape.stride[1] + (kernel[1] - 1) * shape.dilation[1];
            assert!(y < source.size[0] && x < source.size[1]);
            y * x_row + x * lanes
        };
        assert!((read.first + read.blocks - 1) * x_block + last + lanes <= source.x.len());
        let (skip, last_quads) = (read.skip / 4, read.last.div_ceil(4));
        let summed = ((read.blocks - 1) * lanes / 4 + last_quads - skip) * taps;
        assert!(read.offset + (count - 1) * w_block + summed <= steps.len());
        assert!(count == 1 || uniform(reads));
        let needed = (part.rows.len() - 1) * part.pitch + width;
        assert!(to.iter().all(|to| to.pixels() >= needed));
        assert!(matches!(part.post, Post::Nothing) || part.affine.len() >= count * AFFINE_PARAMETERS);

        // Adjacent columns of a single input block are contiguous, so a row of taps is one long run of quads.
        let alone = read.blocks == 1 && skip == 0 && last_quads * 4 == lanes && shape.dilation[1] == 1;
        let (kernel, last_quads) = if alone {
            ([kernel[0], 1], kernel[1] * last_quads)
        } else {
            (kernel, last_quads)
        };
        let mut start = [[0; LANES]; MAX_BLOCKS];
        for (start, sums) in start.iter_mut().zip(&self.weights.sums[block..block + count]) {
            *start = sums.map(|sum| sum.wrapping_mul(part.offset));
        }
        let kernels = tiles(part.level, count);
        let pixel = shape.stride[1] * lanes;
        let tile = Tile {
            w: steps[read.offset..].as_ptr(),
            start: &start[..count],
            affine: part.affine,
            post: part.post,
            blocks: read.blocks,
            quads: lanes / 4,
            last_quads,
            skip,
            kernel,
            x_block,
            x_row: shape.dilation[0] * x_row,
            x_tap: shape.dilation[1] * lanes,
            x_pixel: pixel,
            w_block,
        };
        let source = source.x[read.first * x_block..].as_ptr();
        for (index, y) in part.rows.clone().enumerate() {
            let row = if joined {
                y * width * lanes
            } else {
                y * shape.stride[0] * x_row
            };
            // The last row fetches the weights of the next output blocks, which are in a slower cache or in memory.
            let last = index + 1 == part.rows.len();
            let ahead = if last { count * w_block } else { 0 };
            let mut column = 0;
            for &(pixels, kernel) in kernels {
                let tiles = (width - column) / pixels;
                if tiles > 0 {
                    // SAFETY: the assertions above cover the highest address of every operand: the last tap of the last
                    // pixel of the last row, and the end of the last block's weights.
                    unsafe {
                        let run = Run {
                            x: source.add(row + column * pixel),
                            at: index * part.pitch + column,
                            tiles,
                            ahead,
                        };
                        kernel(part.level, &tile, run, to);
                    }
                }
                column += tiles * pixels;
            }
        }
    }
}
