//! One convolution with everything that follows it, in one pass: the convolution, the CLR layer or the per-channel
//! scale and bias, a residual, the activation.
//!
//! The feature map between the convolution and its CLR layer never exists as a whole: a band of its rows stands in
//! working memory that the CLR layer reads at once, while it is in the cache.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    activation::{Smooth, activate},
    arena::Arena,
    lanes::{LANES, Level},
    pack::{PackedConv, Reads, Weights},
    rows::{AFFINE_PARAMETERS, Bounds, CLR_PARAMETERS, DepthwiseInput, clr_row, depthwise_row},
    tile::{Tile, best_blocks, tiles},
};

/// Working memory for the rows between a convolution and its CLR layer, in bytes: half of a small level-2 cache.
const BAND_BYTES: usize = 128 << 10;
/// Weights that a band of rows is multiplied with before the next ones are looked at, in bytes.
const WEIGHT_BYTES: usize = 192 << 10;
/// Output blocks per tile, at most.
const MAX_GROUP: usize = 4;

/// What stands behind the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// `[scale 16, bias 16]` per block.
    Affine,
    /// `[9 taps][16]`, bias `[16]` per block.
    Kernel,
}

impl Post {
    /// Parameters per block of 16 channels.
    pub(crate) const fn parameters(self) -> usize {
        match self {
            Self::Affine => AFFINE_PARAMETERS,
            Self::Kernel => CLR_PARAMETERS,
        }
    }
}

/// A fused convolution for one input size.
#[derive(Debug)]
pub(crate) struct Site {
    pub conv: Arc<PackedConv>,
    /// Rows, columns of the input.
    pub input: [usize; 2],
    /// Rows, columns of the output.
    pub output: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
    pub post: Post,
    pub bounds: Bounds,
    pub smooth: Option<Smooth>,
    pub level: Level,
    /// Threads of the pool that runs it; 1 is the caller's own.
    pub threads: usize,
    pub arena: Arc<Arena>,
}

/// Rows `rows` of the output blocks from `block` on, one slice per block.
struct Task<'a> {
    block: usize,
    rows: Range<usize>,
    outs: Vec<&'a mut [f32]>,
}

/// The input as the kernels see it, after padding.
#[derive(Clone, Copy)]
struct Source<'a> {
    x: &'a [f32],
    /// Rows, columns.
    size: [usize; 2],
}

impl Site {
    /// Values of the input.
    pub(crate) fn input_len(&self) -> usize {
        let lanes = self.input_lanes();
        self.conv.in_channels.div_ceil(lanes) * lanes * self.input[0] * self.input[1]
    }

    /// Values of the output.
    pub(crate) fn output_len(&self) -> usize {
        self.conv.out_blocks() * LANES * self.output[0] * self.output[1]
    }

    fn input_lanes(&self) -> usize {
        match &self.conv.weights {
            Weights::Dense { lanes, .. } => *lanes,
            Weights::Depthwise(_) => LANES,
        }
    }

    /// Computes the output from `x`, with `parameters` of `out_blocks · post.parameters()` values.
    pub(crate) fn run(&self, x: &[f32], parameters: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        assert!(x.len() == self.input_len() && out.len() == self.output_len());
        assert_eq!(parameters.len(), self.conv.out_blocks() * self.post.parameters());
        assert!(residual.is_none_or(|residual| residual.len() == out.len()));
        let padded = matches!(self.conv.weights, Weights::Dense { .. }) && self.pads != [0; 4];
        if padded {
            let size = [self.input[0] + self.pads[0] + self.pads[2], self.input[1] + self.pads[1] + self.pads[3]];
            let lanes = self.input_lanes();
            let length = self.conv.in_channels.div_ceil(lanes) * size[0] * size[1] * lanes;
            self.arena.lend(length, |buffer| {
                self.pad(x, size, buffer);
                self.tasks(Source { x: buffer, size }, parameters, residual, out);
            });
        } else {
            self.tasks(Source { x, size: self.input }, parameters, residual, out);
        }
    }

    /// Copies the input into a plane with its zero border.
    fn pad(&self, x: &[f32], size: [usize; 2], to: &mut [f32]) {
        let lanes = self.input_lanes();
        let row = size[1] * lanes;
        let (left, right) = (self.pads[1] * lanes, self.pads[3] * lanes);
        let one = |(from, to): (&[f32], &mut [f32])| {
            let (top, rest) = to.split_at_mut(self.pads[0] * row);
            let (middle, bottom) = rest.split_at_mut(self.input[0] * row);
            top.fill(0.0);
            bottom.fill(0.0);
            for (from, to) in from.chunks_exact(self.input[1] * lanes).zip(middle.chunks_exact_mut(row)) {
                to[..left].fill(0.0);
                to[left..row - right].copy_from_slice(from);
                to[row - right..].fill(0.0);
            }
        };
        let planes = self.input[0] * self.input[1] * lanes;
        if self.threads > 1 && x.len() > 1 << 16 {
            x.par_chunks_exact(planes).zip(to.par_chunks_exact_mut(size[0] * row)).for_each(one);
        } else {
            x.chunks_exact(planes).zip(to.chunks_exact_mut(size[0] * row)).for_each(one);
        }
    }

    /// Rows and columns that the loops go over: where neighbours do not matter, rows are joined into longer ones.
    fn grid(&self) -> [usize; 2] {
        let [height, width] = self.output;
        let dense = matches!(self.conv.weights, Weights::Dense { .. });
        let pointwise = self.conv.kernel == [1, 1] && self.conv.stride == [1, 1] && self.pads == [0; 4];
        if !(dense && pointwise && self.post == Post::Affine) {
            return [height, width];
        }
        let joined = (1..=height).find(|&rows| height.is_multiple_of(rows) && rows * width >= 49).unwrap_or(height);
        [height / joined, joined * width]
    }

    /// Cuts the work into tasks and runs them.
    fn tasks(&self, source: Source<'_>, parameters: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let [rows, width] = self.grid();
        let blocks = self.conv.out_blocks();
        let group = match &self.conv.weights {
            Weights::Dense { reads, .. } if uniform(reads) => best_blocks(self.level, width, blocks),
            _ => 1,
        };
        let groups = blocks.div_ceil(group);
        let splits = if self.threads > 1 { (2 * self.threads).div_ceil(groups).min(rows) } else { 1 };
        let per_split = rows.div_ceil(splits);
        let plane = rows * width * LANES;
        let mut planes = out.chunks_exact_mut(plane);
        let mut tasks = Vec::with_capacity(groups * splits);
        let mut block = 0;
        while block < blocks {
            // Tiles come in one, two and four blocks.
            let take = [4, 2, 1].into_iter().find(|&take| take <= group.min(blocks - block)).unwrap_or(1);
            let first = tasks.len();
            tasks.extend((0..rows).step_by(per_split).map(|row| Task {
                block,
                rows: row..(row + per_split).min(rows),
                outs: Vec::with_capacity(take),
            }));
            for plane in planes.by_ref().take(take) {
                for (task, part) in tasks[first..].iter_mut().zip(plane.chunks_mut(per_split * width * LANES)) {
                    task.outs.push(part);
                }
            }
            block += take;
        }
        let run = |mut task: Task<'_>| {
            let residuals = residual.map(|residual| {
                let from = |index: usize| (task.block + index) * plane + task.rows.start * width * LANES;
                std::array::from_fn(|index| {
                    task.outs.get(index).map_or(&[][..], |out| &residual[from(index)..from(index) + out.len()])
                })
            });
            self.task(source, parameters, residuals, &mut task, width);
            if let Some(smooth) = self.smooth {
                task.outs.iter_mut().for_each(|out| activate(self.level, out, smooth));
            }
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
        residuals: Option<[&[f32]; MAX_GROUP]>,
        task: &mut Task<'_>,
        width: usize,
    ) {
        let count = self.post.parameters();
        let parameters = &parameters[task.block * count..(task.block + task.outs.len()) * count];
        match self.post {
            Post::Affine => {
                let rows = task.rows.clone();
                let band = self.band(width, task.outs.len());
                let mut outs: [&mut [f32]; MAX_GROUP] = Default::default();
                for (slot, out) in outs.iter_mut().zip(&mut task.outs) {
                    *slot = out;
                }
                let length = width * LANES;
                let mut start = rows.start;
                while start < rows.end {
                    let end = (start + band).min(rows.end);
                    let part = (start - rows.start) * length..(end - rows.start) * length;
                    let parts = outs.each_mut().map(|out| if out.is_empty() { &mut [][..] } else { &mut out[part.clone()] });
                    let residuals = residuals.map(|all| all.map(|one| if one.is_empty() { one } else { &one[part.clone()] }));
                    self.convolve(source, task.block, start..end, width, parts, length, Some(parameters), residuals);
                    start = end;
                }
            }
            Post::Kernel => self.clr(source, parameters, residuals, task),
        }
    }

    /// Rows per band: few enough for the level-2 cache, enough to pay for walking the weights.
    fn band(&self, width: usize, blocks: usize) -> usize {
        (BAND_BYTES / ((width + 2) * LANES * blocks * size_of::<f32>())).max(2)
    }

    /// Convolution rows into a sliding band, from there through the CLR layer into the output.
    fn clr(
        &self,
        source: Source<'_>,
        parameters: &[f32],
        residuals: Option<[&[f32]; MAX_GROUP]>,
        task: &mut Task<'_>,
    ) {
        let [height, width] = self.output;
        let count = task.outs.len();
        let band = self.band(width, count).min(task.rows.len());
        let row = (width + 2) * LANES;
        let plane = (band + 2) * row;
        self.arena.lend(count * plane, |buffer| {
            buffer.fill(0.0);
            // Buffer row r holds row `start + r − 1` of the convolution's output.
            let mut ready = 0;
            let mut start = task.rows.start;
            while start < task.rows.end {
                let end = (start + band).min(task.rows.end);
                if ready > 0 {
                    for plane in buffer.chunks_exact_mut(plane) {
                        plane.copy_within((ready - 2) * row..ready * row, 0);
                    }
                    ready = 2;
                }
                let wanted = end - start + 2;
                let mut from = start + ready;
                if from == 0 {
                    ready = 1;
                    from = 1;
                }
                // Counted from 1: convolution row y stands as y + 1 here, so that the row above the picture is 0.
                let to = (start + wanted).min(height + 1);
                if from < to {
                    let mut parts: [&mut [f32]; MAX_GROUP] = Default::default();
                    for (slot, plane) in parts.iter_mut().zip(buffer.chunks_exact_mut(plane)) {
                        *slot = &mut plane[ready * row + LANES..(ready + to - from) * row - LANES];
                    }
                    self.convolve(source, task.block, from - 1..to - 1, width, parts, row, None, None);
                }
                if to < start + wanted {
                    for plane in buffer.chunks_exact_mut(plane) {
                        plane[(wanted - 1) * row..wanted * row].fill(0.0);
                    }
                }
                ready = wanted;
                for (index, (plane, out)) in buffer.chunks_exact(plane).zip(&mut task.outs).enumerate() {
                    let parameters = &parameters[index * CLR_PARAMETERS..(index + 1) * CLR_PARAMETERS];
                    for y in start..end {
                        let at = |r: usize| &plane[(y - start + r) * row..(y - start + r + 1) * row];
                        let part = (y - task.rows.start) * width * LANES..(y - task.rows.start + 1) * width * LANES;
                        let residual = residuals.map(|all| &all[index][part.clone()]);
                        clr_row(self.level, [at(0), at(1), at(2)], parameters, residual, &mut out[part], self.bounds);
                    }
                }
                start = end;
            }
        });
    }

    /// Rows `rows` of the convolution for the output blocks from `block` on, into `outs`, whose rows are `pitch`
    /// values apart. With `affine`, the rows are finished; without, they are the bare sums.
    fn convolve(
        &self,
        source: Source<'_>,
        block: usize,
        rows: Range<usize>,
        width: usize,
        outs: [&mut [f32]; MAX_GROUP],
        pitch: usize,
        affine: Option<&[f32]>,
        residuals: Option<[&[f32]; MAX_GROUP]>,
    ) {
        match &self.conv.weights {
            Weights::Depthwise(taps) => {
                let plane = source.size[0] * source.size[1] * LANES;
                let taps_len = self.conv.kernel[0] * self.conv.kernel[1] * LANES;
                let input = DepthwiseInput {
                    plane: &source.x[block * plane..(block + 1) * plane],
                    size: source.size,
                    taps: &taps[block * taps_len..(block + 1) * taps_len],
                    kernel: self.conv.kernel,
                    stride: self.conv.stride,
                    dilation: self.conv.dilation,
                    pads: [self.pads[0], self.pads[1]],
                };
                let [out, ..] = outs;
                for (index, y) in rows.enumerate() {
                    let part = index * pitch..index * pitch + width * LANES;
                    let residual = residuals.map(|all| &all[0][part.clone()]);
                    depthwise_row(self.level, &input, y, affine, residual, &mut out[part], self.bounds);
                }
            }
            Weights::Dense { data, reads, lanes } => {
                self.dense(source, (data, reads, *lanes), block, rows, width, outs, pitch, affine, residuals);
            }
        }
    }

    fn dense(
        &self,
        source: Source<'_>,
        (data, reads, lanes): (&[f32], &[Reads], usize),
        block: usize,
        rows: Range<usize>,
        width: usize,
        mut outs: [&mut [f32]; MAX_GROUP],
        pitch: usize,
        affine: Option<&[f32]>,
        residuals: Option<[&[f32]; MAX_GROUP]>,
    ) {
        let conv = &*self.conv;
        let count = outs.iter().filter(|out| !out.is_empty()).count();
        let read = reads[block];
        let x_row = source.size[1] * lanes;
        let x_block = source.size[0] * x_row;
        let taps = conv.kernel[0] * conv.kernel[1];
        let per_block = taps * lanes * LANES;
        let last_lanes = conv.in_channels - (conv.in_channels.div_ceil(lanes) - 1) * lanes;
        let in_blocks = conv.in_channels.div_ceil(lanes);
        let w_block = reads.get(block + 1).map_or(0, |next| next.offset - read.offset);
        // Everything the tiles touch, checked once here. Joined rows are whole rows one after another.
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
        let end = read.offset + (count - 1) * w_block + block_len(read, in_blocks, per_block, taps, last_lanes);
        assert!(end <= data.len() && (count == 1 || uniform(reads)));
        assert!(outs[..count].iter().all(|out| out.len() >= (rows.len() - 1) * pitch + width * LANES));
        assert!(residuals.is_none_or(|all| all[..count].iter().zip(&outs).all(|(one, out)| one.len() == out.len())));
        assert!(affine.is_none_or(|affine| affine.len() >= count * AFFINE_PARAMETERS));

        let kernels = tiles(self.level, count, conv.stride[1] * lanes);
        let pieces = width.div_ceil(kernels.len());
        let chunk = (WEIGHT_BYTES / (count * per_block * size_of::<f32>())).max(1);
        let targets = outs.each_mut().map(|out| out.as_mut_ptr());
        for from in (0..read.blocks).step_by(chunk) {
            let to = (from + chunk).min(read.blocks);
            let finished = to == read.blocks;
            for (index, y) in rows.clone().enumerate() {
                let row = if joined { y * width * lanes } else { y * conv.stride[0] * x_row };
                let mut column = 0;
                for piece in 0..pieces {
                    let next = width * (piece + 1) / pieces;
                    let at = index * pitch + column * LANES;
                    // SAFETY: the assertions above cover the last address of every operand: the last tap of the last
                    // pixel of the last row, the end of the last block's weights, the end of the rows written.
                    unsafe {
                        let tile = Tile {
                            x: source.x.as_ptr().add(
                                (read.first + from) * x_block + row + column * conv.stride[1] * lanes,
                            ),
                            w: data.as_ptr().add(read.offset + from * per_block),
                            to: targets.map(|to| to.wrapping_add(at)),
                            residual: residuals.filter(|_| finished).map_or([std::ptr::null(); MAX_GROUP], |all| {
                                all.map(|one| one.as_ptr().wrapping_add(at))
                            }),
                            affine: affine.filter(|_| finished).map_or(std::ptr::null(), <[f32]>::as_ptr),
                            resume: from > 0,
                            blocks: to - from,
                            lanes,
                            last_lanes: if read.first + to == in_blocks { last_lanes } else { lanes },
                            kernel: conv.kernel,
                            x_block,
                            x_row: conv.dilation[0] * x_row,
                            x_tap: conv.dilation[1] * lanes,
                            x_pixel: conv.stride[1] * lanes,
                            w_block,
                            low: self.bounds.low,
                            high: self.bounds.high,
                        };
                        kernels[next - column - 1](&tile);
                    }
                    column = next;
                }
            }
        }
    }
}

/// Whether all output blocks read the same input.
fn uniform(reads: &[Reads]) -> bool {
    reads.iter().all(|read| (read.first, read.blocks) == (reads[0].first, reads[0].blocks))
}

/// Weights of one output block.
fn block_len(read: Reads, in_blocks: usize, per_block: usize, taps: usize, last_lanes: usize) -> usize {
    if read.first + read.blocks == in_blocks {
        (read.blocks - 1) * per_block + taps * last_lanes * LANES
    } else {
        read.blocks * per_block
    }
}
