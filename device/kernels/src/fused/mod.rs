//! Fused convolution: a convolution with its post-operations in one pass. These are the CLR layer or the per-channel
//! scale and bias, a residual, and the activation.
//!
//! The feature map between a convolution and its CLR layer is never stored completely. Only a band of its rows is in
//! workspace, and the CLR layer reads it while it is still in the cache.

mod band;
mod dense;
mod depthwise;
mod winograd;

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use depthwise::Strip;
pub use winograd::winograd_scratch;

use super::{
    activation::{Smooth, activate},
    arena::Arena,
    pack::{PackedConv, Weights, uniform},
    rows::{AFFINE_PARAMETERS, Bounds, CLR_PARAMETERS},
    simd::{Isa, LANES},
    tile::{MAX_BLOCKS, tile_blocks},
};

/// Bytes of workspace for the rows between a convolution and its CLR layer: half of a small L2 cache.
const BAND_BYTES: usize = 128 << 10;

/// The epilogue of the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `[scale 16, bias 16]` per block.
    Affine,
    /// `[9 taps][16]`, bias `[16]` per block.
    Kernel,
}

impl Epilogue {
    /// Parameters per block of 16 channels.
    pub const fn parameters(self) -> usize {
        match self {
            Self::Affine => AFFINE_PARAMETERS,
            Self::Kernel => CLR_PARAMETERS,
        }
    }
}

/// A fused convolution for one input size.
#[derive(Debug)]
pub struct FusedConv {
    /// The convolution.
    pub conv: Arc<PackedConv>,
    /// Rows, columns of the input.
    pub input: [usize; 2],
    /// Rows, columns of the output.
    pub output: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
    /// The epilogue of the convolution.
    pub epilogue: Epilogue,
    /// The activation's bounds.
    pub bounds: Bounds,
    /// The rest of the activation.
    pub smooth: Option<Smooth>,
    /// The instruction set.
    pub isa: Isa,
    /// Number of threads in the pool that runs the convolution; 1 means the caller's own thread.
    pub threads: usize,
    /// Working memory.
    pub arena: Arc<Arena>,
}

/// The operands of one image.
#[derive(Debug)]
pub struct ConvImage<'a> {
    /// The input.
    pub x: &'a [f32],
    /// Added after the epilogue, before the activation.
    pub residual: Option<&'a [f32]>,
    /// Receives the output.
    pub out: &'a mut [f32],
}

/// A part of the output: the rows `rows` of the blocks from `block` on, as one slice per block.
struct Task<'a> {
    image: usize,
    block: usize,
    rows: Range<usize>,
    outs: Vec<&'a mut [f32]>,
}

/// The input of the kernels, after padding.
#[derive(Clone, Copy)]
struct Source<'a> {
    x: &'a [f32],
    /// Rows, columns.
    size: [usize; 2],
}

impl FusedConv {
    /// Values of the input.
    pub fn input_len(&self) -> usize {
        let lanes = self.input_lanes();
        self.conv.in_channels.div_ceil(lanes) * lanes * self.input[0] * self.input[1]
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        self.conv.out_blocks() * LANES * self.output[0] * self.output[1]
    }

    fn input_lanes(&self) -> usize {
        match &self.conv.weights {
            Weights::Dense { lanes, .. } => *lanes,
            Weights::Narrow { .. } | Weights::Winograd(_) => LANES,
        }
    }

    /// Computes the output of one image from `x`. `parameters` contains `out_blocks · epilogue.parameters()` values.
    pub fn run(&self, x: &[f32], parameters: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        self.run_images(&mut [ConvImage { x, residual, out }], parameters);
    }

    /// Computes the outputs of several images. Each block of weights is applied to all images before the next block is
    /// read, which is faster if the feature maps are small and the weights large. The results are bit-identical to
    /// those of one image at a time.
    pub fn run_images(&self, images: &mut [ConvImage<'_>], parameters: &[f32]) {
        for image in images.iter() {
            assert!(image.x.len() == self.input_len() && image.out.len() == self.output_len());
            assert!(image.residual.is_none_or(|residual| residual.len() == image.out.len()));
        }
        assert_eq!(parameters.len(), self.conv.out_blocks() * self.epilogue.parameters());
        if let Weights::Winograd(weights) = &self.conv.weights {
            return self.winograd(weights, images, parameters);
        }
        let padded = matches!(self.conv.weights, Weights::Dense { .. }) && self.pads != [0; 4];
        if !padded {
            let sources = images.iter().map(|image| Source {
                x: image.x,
                size: self.input,
            });
            return self.tasks(&sources.collect::<Vec<_>>(), images, parameters);
        }
        let size = [
            self.input[0] + self.pads[0] + self.pads[2],
            self.input[1] + self.pads[1] + self.pads[3],
        ];
        let lanes = self.input_lanes();
        let length = self.conv.in_channels.div_ceil(lanes) * size[0] * size[1] * lanes;
        self.arena.lend(images.len() * length, |buffer| {
            for (image, to) in images.iter().zip(buffer.chunks_exact_mut(length)) {
                self.pad(image.x, self.pads, to);
            }
            let sources = buffer.chunks_exact(length).map(|x| Source { x, size });
            self.tasks(&sources.collect::<Vec<_>>(), images, parameters);
        });
    }

    /// Copies the input into planes with a zero border of `pads` (top, left, bottom, right).
    fn pad(&self, x: &[f32], pads: [usize; 4], to: &mut [f32]) {
        let lanes = self.input_lanes();
        let size = [self.input[0] + pads[0] + pads[2], self.input[1] + pads[1] + pads[3]];
        let row = size[1] * lanes;
        let (left, right) = (pads[1] * lanes, pads[3] * lanes);
        let one = |(from, to): (&[f32], &mut [f32])| {
            let (top, rest) = to.split_at_mut(pads[0] * row);
            let (middle, bottom) = rest.split_at_mut(self.input[0] * row);
            top.fill(0.0);
            bottom.fill(0.0);
            for (from, to) in from
                .chunks_exact(self.input[1] * lanes)
                .zip(middle.chunks_exact_mut(row))
            {
                to[..left].fill(0.0);
                to[left..row - right].copy_from_slice(from);
                to[row - right..].fill(0.0);
            }
        };
        let planes = self.input[0] * self.input[1] * lanes;
        if self.threads > 1 && x.len() > 1 << 16 {
            x.par_chunks_exact(planes)
                .zip(to.par_chunks_exact_mut(size[0] * row))
                .for_each(one);
        } else {
            x.chunks_exact(planes)
                .zip(to.chunks_exact_mut(size[0] * row))
                .for_each(one);
        }
    }

    /// Returns the rows and columns of the loops. Where neighbouring pixels do not interact, rows are joined into
    /// longer ones.
    fn grid(&self) -> [usize; 2] {
        let [height, width] = self.output;
        let dense = matches!(self.conv.weights, Weights::Dense { .. });
        let pointwise = self.conv.kernel == [1, 1] && self.conv.stride == [1, 1] && self.pads == [0; 4];
        if !(dense && pointwise && self.epilogue == Epilogue::Affine) {
            return [height, width];
        }
        let joined = (1..=height)
            .find(|&rows| height.is_multiple_of(rows) && rows * width >= 49)
            .unwrap_or(height);
        [height / joined, joined * width]
    }

    /// Divides the work into tasks and runs them, one block after another.
    fn tasks(&self, sources: &[Source<'_>], images: &mut [ConvImage<'_>], parameters: &[f32]) {
        let [rows, width] = self.grid();
        let blocks = self.conv.out_blocks();
        let group = match &self.conv.weights {
            Weights::Dense { reads, .. } if uniform(reads) => tile_blocks(self.isa),
            _ => 1,
        };
        let groups = blocks.div_ceil(group);
        let splits = if self.threads > 1 {
            (2 * self.threads).div_ceil(groups).min(rows)
        } else {
            1
        };
        let per_split = rows.div_ceil(splits);
        let plane = rows * width * LANES;
        let mut tasks = Vec::with_capacity(images.len() * groups * splits);
        let (residuals, mut planes): (Vec<_>, Vec<_>) = images
            .iter_mut()
            .map(|image| (image.residual, image.out.chunks_exact_mut(plane)))
            .unzip();
        for block in (0..blocks).step_by(group) {
            let take = group.min(blocks - block);
            for (image, planes) in planes.iter_mut().enumerate() {
                let first = tasks.len();
                tasks.extend((0..rows).step_by(per_split).map(|row| Task {
                    image,
                    block,
                    rows: row..(row + per_split).min(rows),
                    outs: Vec::with_capacity(take),
                }));
                for plane in planes.by_ref().take(take) {
                    let parts = plane.chunks_mut(per_split * width * LANES);
                    for (task, part) in tasks[first..].iter_mut().zip(parts) {
                        task.outs.push(part);
                    }
                }
            }
        }
        let run = |mut task: Task<'_>| {
            let residuals = residuals[task.image].map(|residual| {
                let from = |index: usize| (task.block + index) * plane + task.rows.start * width * LANES;
                std::array::from_fn(|index| {
                    task.outs
                        .get(index)
                        .map_or(&[][..], |out| &residual[from(index)..from(index) + out.len()])
                })
            });
            self.task(sources[task.image], parameters, residuals, &mut task, width);
        };
        if self.threads > 1 && tasks.len() > 1 {
            tasks.into_par_iter().for_each(run);
        } else {
            tasks.into_iter().for_each(run);
        }
    }

    fn task(
        &self,
        source: Source<'_>,
        parameters: &[f32],
        residuals: Option<[&[f32]; MAX_BLOCKS]>,
        task: &mut Task<'_>,
        width: usize,
    ) {
        let count = self.epilogue.parameters();
        let parameters = &parameters[task.block * count..(task.block + task.outs.len()) * count];
        match self.epilogue {
            Epilogue::Affine => {
                let rows = task.rows.clone();
                let band = self.band(width, task.outs.len());
                let mut outs: [&mut [f32]; MAX_BLOCKS] = Default::default();
                for (slot, out) in outs.iter_mut().zip(&mut task.outs) {
                    *slot = out;
                }
                let length = width * LANES;
                let mut start = rows.start;
                while start < rows.end {
                    let end = (start + band).min(rows.end);
                    let part = (start - rows.start) * length..(end - rows.start) * length;
                    let parts = outs.each_mut().map(|out| {
                        if out.is_empty() {
                            &mut [][..]
                        } else {
                            &mut out[part.clone()]
                        }
                    });
                    let residuals =
                        residuals.map(|all| all.map(|one| if one.is_empty() { one } else { &one[part.clone()] }));
                    self.convolve(
                        source,
                        task.block,
                        start..end,
                        width,
                        parts,
                        length,
                        Some(parameters),
                        residuals,
                    );
                    for out in outs.iter_mut().filter(|out| !out.is_empty()) {
                        self.activate(&mut out[part.clone()]);
                    }
                    start = end;
                }
            }
            Epilogue::Kernel => self.clr(source, parameters, residuals, task),
        }
    }

    /// Applies the smooth part of the activation to finished rows, which are still in the cache.
    fn activate(&self, rows: &mut [f32]) {
        if let Some(smooth) = self.smooth {
            activate(self.isa, rows, smooth);
        }
    }

    /// Returns the number of rows per band: few enough for the L2 cache, but enough to amortise reading the weights.
    fn band(&self, width: usize, blocks: usize) -> usize {
        // A convolution with narrow groups also copies its input rows.
        let width = match self.conv.weights {
            Weights::Narrow { .. } => width + self.input[1] * self.conv.stride[0],
            Weights::Dense { .. } | Weights::Winograd(_) => width + 2,
        };
        (BAND_BYTES / (width * LANES * blocks * size_of::<f32>())).max(2)
    }

    /// Computes the rows `rows` of the convolution for the output blocks from `block` on, into `outs`, whose rows are
    /// `pitch` values apart. With `affine` the rows are finished; without it they are plain sums.
    fn convolve(
        &self,
        source: Source<'_>,
        block: usize,
        rows: Range<usize>,
        width: usize,
        outs: [&mut [f32]; MAX_BLOCKS],
        pitch: usize,
        affine: Option<&[f32]>,
        residuals: Option<[&[f32]; MAX_BLOCKS]>,
    ) {
        match &self.conv.weights {
            Weights::Narrow { taps, width } => {
                let [out, ..] = outs;
                let residual = residuals.map(|all| all[0]);
                self.depthwise(
                    source,
                    (taps, *width),
                    Strip {
                        block,
                        rows,
                        out,
                        pitch,
                        affine,
                        residual,
                    },
                );
            }
            Weights::Dense { data, reads, lanes } => {
                self.dense(
                    source,
                    (data, reads, *lanes),
                    block,
                    rows,
                    width,
                    outs,
                    pitch,
                    affine,
                    residuals,
                );
            }
            Weights::Winograd(_) => unreachable!("`run` has sent these another way"),
        }
    }
}
