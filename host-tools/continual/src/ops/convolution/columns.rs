//! The values that the windows of a range of output pixels read, as a matrix ("im2col"), and the sum of such a matrix
//! back into the input.
//!
//! Maps are those of the images of one block, `[images, channels, rows, columns]`.

use std::ops::Range;

use rayon::prelude::*;

use super::shape::ConvShape;

/// Values in a matrix of columns: it should stay in a core's cache.
const VALUES: usize = 1 << 18;
/// Pixels of a matrix below which a product is slow.
const PIXELS: usize = 256;

/// Smallest number of blocks of a convolution with groups, if it has as many images.
const GROUPED_BLOCKS: usize = 8;

/// A number of consecutive images that are computed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Images in a block; the last one may have fewer.
    pub(super) images: usize,
    /// Output rows that are computed at once. It is below the number of all rows only in blocks of one image.
    rows: usize,
}

impl Blocks {
    /// Divides the output of a convolution whose matrix has `height` rows. The division does not depend on the number
    /// of threads.
    pub(super) fn new(shape: &ConvShape, height: usize) -> Self {
        let pixels = if shape.is_pointwise() {
            PIXELS
        } else {
            (VALUES / height.max(1)).max(PIXELS)
        };
        let images = (pixels / shape.output_plane().max(1)).clamp(1, shape.images.max(1));
        // Products of a group are too small to be divided, so that blocks are what threads share.
        let images = if shape.groups > 1 {
            images.min(shape.images.div_ceil(GROUPED_BLOCKS).max(1))
        } else {
            images
        };
        let rows = if images > 1 || shape.is_pointwise() {
            shape.to[0]
        } else {
            (pixels / shape.to[1].max(1)).clamp(1, shape.to[0].max(1))
        };
        Self { images, rows }
    }

    /// Returns the tiles of a block of `images` images.
    pub(super) fn tiles(self, shape: &ConvShape, images: usize) -> impl Iterator<Item = Tile> {
        let all = shape.to[0];
        let starts = (0..all).step_by(self.rows.max(1));
        starts.map(move |row| Tile {
            images,
            rows: row..(row + self.rows).min(all),
        })
    }
}

/// A range of output pixels of a block: some rows of one image, or several whole images.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) images: usize,
    pub(super) rows: Range<usize>,
}

impl Tile {
    /// Returns the number of output pixels.
    pub(super) fn pixels(&self, shape: &ConvShape) -> usize {
        self.images * self.part(shape)
    }

    /// Returns the number of output pixels in each image.
    fn part(&self, shape: &ConvShape) -> usize {
        self.rows.len() * shape.to[1]
    }

    /// Returns the index of the first pixel within a plane of the output.
    pub(super) fn offset(&self, shape: &ConvShape) -> usize {
        self.rows.start * shape.to[1]
    }
}

/// Writes the matrix `[channels · taps, pixels]` of the channels from `channel` on, in several threads with `threads`.
pub(super) fn gather(shape: &ConvShape, x: &[f32], channel: usize, tile: &Tile, columns: &mut [f32], threads: bool) {
    let (taps, width, plane) = (shape.taps(), shape.to[1], shape.input_plane());
    let write = |(index, line): (usize, &mut [f32])| {
        let (channel, tap) = (channel + index / taps, index % taps);
        let [(top, bottom, first_row), (left, right, first)] = [
            shape.reach(0, tap / shape.kernel[1]),
            shape.reach(1, tap % shape.kernel[1]),
        ];
        for (at, line) in line.chunks_exact_mut(width).enumerate() {
            let (image, row) = (at / tile.rows.len(), tile.rows.start + at % tile.rows.len());
            if row < top || row >= bottom || left == right {
                line.fill(0.0);
                continue;
            }
            let from = (first_row + (row * shape.stride[0]) as isize) as usize;
            let from = &x[(image * shape.inputs + channel) * plane + from * shape.from[1]..][..shape.from[1]];
            let from = &from[(first + (left * shape.stride[1]) as isize) as usize..];
            line[..left].fill(0.0);
            line[right..].fill(0.0);
            copy(&mut line[left..right], from, shape.stride[1]);
        }
    };
    if threads {
        columns.par_chunks_mut(tile.pixels(shape)).enumerate().for_each(write);
    } else {
        columns.chunks_mut(tile.pixels(shape)).enumerate().for_each(write);
    }
}

/// Sets `to[i]` to `from[i · stride]`.
pub(super) fn copy(to: &mut [f32], from: &[f32], stride: usize) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            let values = pairs.iter().map(|pair| pair[0]).chain(last.iter().copied());
            for (to, from) in to.iter_mut().zip(values) {
                *to = from;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}

/// Adds the matrix `[channels · taps, pixels]` to the input values that it was gathered from, in several threads with
/// `threads`.
pub(super) fn scatter(
    shape: &ConvShape,
    columns: &[f32],
    channels: Range<usize>,
    tile: &Tile,
    dx: &mut [f32],
    threads: bool,
) {
    let (taps, width, plane) = (shape.taps(), shape.to[1], shape.input_plane());
    let (pixels, part) = (tile.pixels(shape), tile.part(shape));
    let add = |(index, dx): (usize, &mut [f32])| {
        let (image, channel) = (index / shape.inputs, index % shape.inputs);
        if !channels.contains(&channel) {
            return;
        }
        for tap in 0..taps {
            let line = &columns[((channel - channels.start) * taps + tap) * pixels + image * part..];
            let [(top, bottom, first_row), (left, right, first)] = [
                shape.reach(0, tap / shape.kernel[1]),
                shape.reach(1, tap % shape.kernel[1]),
            ];
            if left == right {
                continue;
            }
            for row in top.max(tile.rows.start)..bottom.min(tile.rows.end) {
                let from = &line[(row - tile.rows.start) * width..][left..right];
                let to = (first_row + (row * shape.stride[0]) as isize) as usize;
                let to = &mut dx[to * shape.from[1]..][..shape.from[1]];
                let to = &mut to[(first + (left * shape.stride[1]) as isize) as usize..];
                if shape.stride[1] == 1 {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += *from;
                    }
                } else {
                    for (to, from) in to.iter_mut().step_by(shape.stride[1]).zip(from) {
                        *to += *from;
                    }
                }
            }
        }
    };
    if threads {
        dx.par_chunks_mut(plane).enumerate().for_each(add);
    } else {
        dx.chunks_mut(plane).enumerate().for_each(add);
    }
}

/// Copies planes of the output's size to rows of pixels: `range` of the `channels` of a map.
pub(super) fn gather_planes(
    shape: &ConvShape,
    map: &[f32],
    channels: usize,
    range: Range<usize>,
    tile: &Tile,
    rows: &mut [f32],
) {
    let (plane, part) = (shape.output_plane(), tile.part(shape));
    for (channel, row) in range.zip(rows.chunks_exact_mut(tile.pixels(shape))) {
        for (image, row) in row.chunks_exact_mut(part).enumerate() {
            row.copy_from_slice(&map[(image * channels + channel) * plane + tile.offset(shape)..][..part]);
        }
    }
}

/// Copies rows of pixels to the planes of a map: the inverse of [`gather_planes`].
pub(super) fn scatter_planes(
    shape: &ConvShape,
    rows: &[f32],
    channels: usize,
    range: Range<usize>,
    tile: &Tile,
    map: &mut [f32],
) {
    let (plane, part) = (shape.output_plane(), tile.part(shape));
    for (channel, row) in range.zip(rows.chunks_exact(tile.pixels(shape))) {
        for (image, row) in row.chunks_exact(part).enumerate() {
            map[(image * channels + channel) * plane + tile.offset(shape)..][..part].copy_from_slice(row);
        }
    }
}
