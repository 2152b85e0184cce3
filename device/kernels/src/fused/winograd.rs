//! 3×3 convolution of stride 1 by Winograd's algorithm, with its epilogue.

use rayon::prelude::*;

use super::{ConvImage, Epilogue, FusedConv, MAX_BLOCKS};
use crate::{
    depthwise::{Depthwise, depthwise},
    pack::Form,
    rows::{AFFINE_PARAMETERS, Bounds, CLR_PARAMETERS},
    simd::{Isa, LANES},
    tile::{Tile, tile_blocks, tiles},
    winograd::{Backward, Forward, TransformedWeights, Winograd, backward, forward},
};

/// Bytes of the transformed inputs that are multiplied together, if the weights stay in a cache.
const BAND_BYTES: usize = 1 << 20;
/// Large weights are read from memory for every band, so a band has at least the weights' size divided by this.
const PART_OF_WEIGHTS: usize = 8;

/// Returns the number of tile rows per band, for bands of equal height, and the number of values of a tile row's
/// transformed inputs.
fn band(winograd: Winograd, [inputs, outputs]: [usize; 2], cut: [usize; 2]) -> (usize, usize) {
    let per_row = winograd.points() * inputs.div_ceil(LANES) * cut[1] * LANES;
    let weights = winograd.points() * inputs * outputs * size_of::<f32>();
    let bytes = BAND_BYTES.max(weights / PART_OF_WEIGHTS);
    let step = (bytes / (per_row * size_of::<f32>())).clamp(1, cut[0]);
    (cut[0].div_ceil(cut[0].div_ceil(step)), per_row)
}

/// Returns the number of workspace values that a thread needs for one image's convolution of `[in, out]` channels in
/// this form, with an output of `output` (rows, columns); zero for other forms.
pub fn winograd_scratch(form: Form, channels: [usize; 2], output: [usize; 2], isa: Isa) -> usize {
    let Form::Winograd(winograd) = form else { return 0 };
    let cut = winograd.tiles(output);
    let (step, per_row) = band(winograd, channels, cut);
    let plane = |channels: usize, [rows, columns]: [usize; 2]| channels.div_ceil(LANES) * rows * columns * LANES;
    let padded = plane(channels[0], cut.map(|tiles| tiles * winograd.tile() + 2));
    let results = winograd.points() * tile_blocks(isa) * step * cut[1] * LANES;
    padded + step * per_row + results + plane(channels[1], output.map(|length| length + 2))
}

/// Destination of the convolution's rows: the output itself, or a plane with a zero border that the CLR layer reads.
struct Target<'a> {
    planes: &'a mut [f32],
    /// Number of values in one block.
    plane: usize,
    /// Of the first pixel in a plane.
    origin: usize,
    /// Distance between rows.
    pitch: usize,
    affine: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
}

impl Target<'_> {
    /// Divides the target into parts of `count` blocks; each comes with the index of its first block.
    fn groups(&mut self, count: usize) -> impl Iterator<Item = (usize, Target<'_>)> {
        let Self {
            plane,
            origin,
            pitch,
            affine,
            residual,
            ..
        } = *self;
        let parts = self.planes.chunks_mut(count * plane).enumerate();
        parts.map(move |(index, planes)| {
            let part = Target {
                planes,
                plane,
                origin,
                pitch,
                affine,
                residual: residual.map(|residual| &residual[index * count * plane..]),
            };
            (index * count, part)
        })
    }
}

impl FusedConv {
    /// Computes the outputs with the transformed `weights`.
    pub(super) fn winograd(&self, weights: &TransformedWeights, images: &mut [ConvImage<'_>], parameters: &[f32]) {
        let cut = weights.winograd.tiles(self.output);
        let (step, _) = band(weights.winograd, [self.conv.in_channels, self.conv.out_channels], cut);
        // If the map is divided into several bands, the weights are read several times in any case, so the images run
        // one at a time.
        let together = if step < cut[0] { 1 } else { images.len() };
        for images in images.chunks_mut(together.max(1)) {
            self.winograd_images(weights, cut, images, parameters);
        }
    }

    fn winograd_images(
        &self,
        weights: &TransformedWeights,
        cut: [usize; 2],
        images: &mut [ConvImage<'_>],
        parameters: &[f32],
    ) {
        let [height, width] = self.output;
        let size = cut.map(|tiles| tiles * weights.winograd.tile() + 2);
        let [top, left, ..] = self.pads;
        let pads = [top, left, size[0] - self.input[0] - top, size[1] - self.input[1] - left];
        let length = self.conv.in_channels.div_ceil(LANES) * size[0] * size[1] * LANES;
        self.arena.lend(images.len() * length, |padded| {
            for (image, padded) in images.iter().zip(padded.chunks_exact_mut(length)) {
                self.pad(image.x, pads, padded);
            }
            if self.epilogue == Epilogue::Affine {
                let targets = images.iter_mut().map(|image| Target {
                    plane: height * width * LANES,
                    planes: &mut *image.out,
                    origin: 0,
                    pitch: width * LANES,
                    affine: Some(parameters),
                    residual: image.residual,
                });
                self.bands(weights, padded, size, cut, &mut targets.collect::<Vec<_>>());
            } else {
                let (pitch, plane) = ((width + 2) * LANES, (height + 2) * (width + 2) * LANES);
                let all = self.conv.out_blocks() * plane;
                self.arena.lend(images.len() * all, |planes| {
                    let targets = planes.chunks_exact_mut(all).map(|planes| Target {
                        planes,
                        plane,
                        origin: pitch + LANES,
                        pitch,
                        affine: None,
                        residual: None,
                    });
                    self.bands(weights, padded, size, cut, &mut targets.collect::<Vec<_>>());
                    for (image, planes) in images.iter_mut().zip(planes.chunks_exact_mut(all)) {
                        self.layers(planes, parameters, image.residual, image.out);
                    }
                });
            }
        });
    }

    /// Computes the convolution, one band of tile rows at a time: the transform of the inputs by blocks of input
    /// channels, then the products and the inverse transform by blocks of output channels. `padded` contains the images
    /// in sequence.
    fn bands(
        &self,
        weights: &TransformedWeights,
        padded: &[f32],
        size: [usize; 2],
        cut: [usize; 2],
        targets: &mut [Target<'_>],
    ) {
        let winograd = weights.winograd;
        let blocks = self.conv.in_channels.div_ceil(LANES);
        let (step, per_row) = band(winograd, [self.conv.in_channels, self.conv.out_channels], cut);
        self.arena.lend(targets.len() * step * per_row, |transformed| {
            for first in (0..cut[0]).step_by(step) {
                let rows = step.min(cut[0] - first);
                let bands = &mut transformed[..targets.len() * rows * per_row];
                let pitch = size[1] * LANES;
                let parts = padded
                    .chunks_exact(size[0] * pitch)
                    .zip(bands.chunks_exact_mut(rows * per_row / blocks));
                self.each(parts.collect(), |(plane, out): (&[f32], &mut [f32])| {
                    let input = &plane[first * winograd.tile() * pitch..];
                    forward(
                        self.isa,
                        Forward {
                            winograd,
                            input,
                            pitch,
                            tiles: [rows, cut[1]],
                            out,
                        },
                    );
                });
                let group = tile_blocks(self.isa);
                let mut parts: Vec<(usize, &[f32], Target<'_>)> = Vec::new();
                for (target, band) in targets.iter_mut().zip(bands.chunks_exact(rows * per_row)) {
                    parts.extend(target.groups(group).map(|(block, part)| (block, band, part)));
                }
                // One block of weights is applied to all images before the next block is read.
                parts.sort_by_key(|(block, ..)| *block);
                self.each(parts, |(block, band, part)| {
                    self.products(weights, band, block, first, [rows, cut[1]], part);
                });
            }
        });
    }

    /// Computes the products of one band for the output blocks from `block` on, and the inverse transform.
    fn products(
        &self,
        weights: &TransformedWeights,
        band: &[f32],
        block: usize,
        first: usize,
        cut: [usize; 2],
        target: Target<'_>,
    ) {
        let TransformedWeights { winograd, ref data } = *weights;
        let (points, tile_size) = (winograd.points(), winograd.tile());
        let inputs = self.conv.in_channels;
        let blocks = inputs.div_ceil(LANES);
        let count = target.planes.len() / target.plane;
        let pixels = cut[0] * cut[1];
        let w_block = points * inputs * LANES;
        assert!(count <= MAX_BLOCKS && data.len() >= (block + count) * w_block);
        assert_eq!(band.len(), blocks * points * pixels * LANES);
        let kernels = tiles(self.isa, count, LANES);
        let pieces = pixels.div_ceil(kernels.len());
        let point = count * pixels * LANES;
        self.arena.lend(points * point, |results| {
            for index in 0..points {
                let mut from = 0;
                for piece in 0..pieces {
                    let next = pixels * (piece + 1) / pieces;
                    let to = results[index * point..].as_mut_ptr();
                    // SAFETY: the band contains `points` × `pixels` pixels of every input block, the weights contain
                    // every point of the blocks, and the results contain `count` × `pixels` pixels per point. All of
                    // these were asserted or allocated above.
                    unsafe {
                        let tile = Tile {
                            x: band.as_ptr().add((index * pixels + from) * LANES),
                            w: data.as_ptr().add(block * w_block + index * inputs * LANES),
                            to: std::array::from_fn(|o| to.wrapping_add((o * pixels + from) * LANES)),
                            residual: [std::ptr::null(); MAX_BLOCKS],
                            affine: std::ptr::null(),
                            resume: false,
                            blocks,
                            lanes: LANES,
                            last_lanes: inputs - (blocks - 1) * LANES,
                            skip: 0,
                            kernel: [1; 2],
                            x_block: points * pixels * LANES,
                            x_row: 0,
                            x_tap: 0,
                            x_pixel: LANES,
                            w_block,
                            w_next: inputs * LANES,
                            low: f32::NEG_INFINITY,
                            high: f32::INFINITY,
                        };
                        kernels[next - from - 1](self.isa, &tile);
                    }
                    from = next;
                }
            }
            let rows = (cut[0] * tile_size).min(self.output[0] - first * tile_size);
            let start = target.origin + first * tile_size * target.pitch;
            for (index, plane) in target.planes.chunks_exact_mut(target.plane).enumerate() {
                let affine = target
                    .affine
                    .map(|all| &all[(block + index) * AFFINE_PARAMETERS..][..AFFINE_PARAMETERS]);
                let tiles = Backward {
                    winograd,
                    input: &results[index * pixels * LANES..],
                    point,
                    tiles: cut,
                    affine,
                    residual: target.residual.map(|all| &all[index * target.plane + start..]),
                    out: &mut plane[start..],
                    pitch: target.pitch,
                    size: [rows, self.output[1]],
                    bounds: if affine.is_some() { self.bounds } else { Bounds::NONE },
                };
                backward(self.isa, tiles);
                if affine.is_some() {
                    self.activate(&mut plane[start..start + rows * target.pitch]);
                }
            }
        });
    }

    /// Applies the CLR layer to the complete feature map, whose planes have room for a zero border.
    fn layers(&self, planes: &mut [f32], parameters: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let [height, width] = self.output;
        let (pitch, plane) = ((width + 2) * LANES, height * width * LANES);
        let parts = planes
            .chunks_exact_mut((height + 2) * pitch)
            .zip(parameters.chunks_exact(CLR_PARAMETERS))
            .zip(out.chunks_exact_mut(plane))
            .enumerate();
        self.each(parts.collect(), |(index, ((input, parameters), out))| {
            let (top, rest) = input.split_at_mut(pitch);
            let (rows, bottom) = rest.split_at_mut(height * pitch);
            top.fill(0.0);
            bottom.fill(0.0);
            for row in rows.chunks_exact_mut(pitch) {
                row[..LANES].fill(0.0);
                row[pitch - LANES..].fill(0.0);
            }
            let (taps, bias) = parameters.split_at(9 * LANES);
            let layer = Depthwise {
                residual: residual.map(|residual| &residual[index * plane..(index + 1) * plane]),
                ..Depthwise::bordered(input, taps, Some(bias), self.output, out, self.bounds)
            };
            depthwise(self.isa, layer);
            self.activate(out);
        });
    }

    /// Runs `work` on every part, on the thread pool if there is one.
    fn each<T: Send>(&self, parts: Vec<T>, work: impl Fn(T) + Sync + Send) {
        if self.threads > 1 && parts.len() > 1 {
            parts.into_par_iter().for_each(work);
        } else {
            parts.into_iter().for_each(work);
        }
    }
}
