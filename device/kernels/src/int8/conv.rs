//! A quantised convolution with its post-operations in one pass, divided into tasks for threads.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{
    Int8Output, Int8Weights,
    reach::results_are_small,
    target::{Post, Target},
    tile::{MAX_BLOCKS, tile_blocks},
    weights::Packed,
    workspace::Workspace,
};
use crate::{
    Arena, Epilogue, Isa,
    pack::uniform,
    simd::{
        LANES,
        int8::{Exact, Level},
    },
};

/// A quantised convolution for one input size (ONNX `QLinearConv`, opset 10, with f32 scales per channel in place of
/// the bias).
#[derive(Debug)]
pub struct Int8Conv {
    /// The weights.
    pub weights: Arc<Int8Weights>,
    /// Rows, columns of the input.
    pub input: [usize; 2],
    /// Rows, columns of the output.
    pub output: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
    /// The form of the parameters.
    pub epilogue: Epilogue,
    /// The instruction set.
    pub isa: Isa,
    /// Number of threads in the pool that runs the convolution; 1 means the caller's own thread.
    pub threads: usize,
    /// Working memory.
    pub arena: Arc<Arena>,
}

/// The input of the kernels, after padding.
pub(super) struct Source<'a> {
    pub x: &'a [u8],
    /// Rows, columns.
    pub size: [usize; 2],
    /// The byte of the padding.
    pub padding: u8,
}

/// Some rows of some output blocks, and what is done to their sums.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub level: Level,
    /// The first output block.
    pub block: usize,
    /// Output rows.
    pub rows: Range<usize>,
    /// Pixels of a row.
    pub width: usize,
    /// Distance between rows of the target, in pixels.
    pub pitch: usize,
    /// The initial value of a sum is the sum of its weights times this.
    pub offset: i32,
    /// `[scale 16, bias 16]` per output block from the first one on; not used for [`Post::Nothing`].
    pub affine: &'a [f32],
    pub post: Post,
}

impl Int8Conv {
    /// Bytes of the input.
    pub fn input_len(&self) -> usize {
        let lanes = self.weights.input_lanes();
        self.weights.shape.in_channels.div_ceil(lanes) * lanes * self.input[0] * self.input[1]
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        self.weights.out_blocks() * LANES * self.output[0] * self.output[1]
    }

    /// Computes the output of `x`, whose zero point is also the padding. With the sums
    /// `acc = Σ w · (x − zero_point)`, a result is:
    ///
    /// * [`Epilogue::Affine`], `[m 16, a 16]` per block: `r = fma(acc, m, a)`;
    /// * [`Epilogue::Kernel`], `[9 taps][16]` and bias `[16]` per block: a depthwise 3×3 convolution of `acc`, which is
    ///   zero outside the map; the bias comes first, then the taps in row-major order, by `fma`.
    ///
    /// `m`, `a`, taps and bias contain the scales of input, weights and output: for `u8` output they are divided by its
    /// scale. They must be finite, and `acc` must fit in an i32.
    pub fn run(&self, x: &[u8], zero_point: u8, parameters: &[f32], output: Int8Output<'_>) {
        self.run_at(Level::of(self.isa), x, zero_point, parameters, output);
    }

    /// Does the same with the instructions of `level`.
    pub(super) fn run_at(&self, level: Level, x: &[u8], zero_point: u8, parameters: &[f32], output: Int8Output<'_>) {
        assert_eq!(x.len(), self.input_len());
        assert_eq!(parameters.len(), self.weights.out_blocks() * self.epilogue.parameters());
        let level = level.for_weights(self.weights.narrow);
        let (target, post) = output.target(self.output_len());
        // Only plain Rust saturates. No sensible network needs it.
        let level = if results_are_small(level, &self.weights.magnitudes, parameters, post) {
            level
        } else {
            Level::Exact(Exact::new())
        };
        let common = Common {
            level,
            offset: level.offset() - i32::from(zero_point),
            post,
        };
        let dense = matches!(self.weights.packed, Packed::Dense { .. });
        if !dense || self.pads == [0; 4] {
            let source = Source {
                x,
                size: self.input,
                padding: zero_point,
            };
            return self.tasks(&source, common, parameters, target);
        }
        let size = [
            self.input[0] + self.pads[0] + self.pads[2],
            self.input[1] + self.pads[1] + self.pads[3],
        ];
        let length = x.len() / (self.input[0] * self.input[1]) * size[0] * size[1];
        self.arena.lend_bytes(length, |padded| {
            self.pad(x, zero_point, padded);
            let source = Source {
                x: padded,
                size,
                padding: zero_point,
            };
            self.tasks(&source, common, parameters, target);
        });
    }

    /// Copies the input into planes with a border of `padding`.
    fn pad(&self, x: &[u8], padding: u8, to: &mut [u8]) {
        let lanes = self.weights.input_lanes();
        let line = self.input[1] * lanes;
        let row = line + (self.pads[1] + self.pads[3]) * lanes;
        let left = self.pads[1] * lanes;
        let one = |(from, to): (&[u8], &mut [u8])| {
            let (top, rest) = to.split_at_mut(self.pads[0] * row);
            let (middle, bottom) = rest.split_at_mut(self.input[0] * row);
            top.fill(padding);
            bottom.fill(padding);
            for (from, to) in from.chunks_exact(line).zip(middle.chunks_exact_mut(row)) {
                to[..left].fill(padding);
                to[left..left + line].copy_from_slice(from);
                to[left + line..].fill(padding);
            }
        };
        let plane = self.input[0] * line;
        let padded = (self.input[0] + self.pads[0] + self.pads[2]) * row;
        if self.threads > 1 && x.len() > 1 << 16 {
            x.par_chunks_exact(plane)
                .zip(to.par_chunks_exact_mut(padded))
                .for_each(one);
        } else {
            x.chunks_exact(plane).zip(to.chunks_exact_mut(padded)).for_each(one);
        }
    }

    /// Returns the rows and columns of the loops. Where neighbouring pixels do not interact, rows are joined into
    /// longer ones: all of them, or fewer if several threads share them.
    fn grid(&self) -> [usize; 2] {
        let [height, width] = self.output;
        let shape = &self.weights.shape;
        let dense = matches!(self.weights.packed, Packed::Dense { .. });
        let pointwise = shape.kernel == [1, 1] && shape.stride == [1, 1] && self.pads == [0; 4];
        if !(dense && pointwise && self.epilogue == Epilogue::Affine) {
            return [height, width];
        }
        let joined = (1..height)
            .find(|&rows| self.threads > 1 && height.is_multiple_of(rows) && rows * width >= 64)
            .unwrap_or(height);
        [height / joined, joined * width]
    }

    /// Divides the work into tasks and runs them, one group of output blocks after another.
    fn tasks(&self, source: &Source<'_>, common: Common, parameters: &[f32], target: Target<'_>) {
        let [rows, width] = self.grid();
        let blocks = self.weights.out_blocks();
        // Tiles are fastest with many output blocks, and groups of equal size avoid a slow last one.
        let most = match &self.weights.packed {
            Packed::Dense { reads, .. } if uniform(reads) => tile_blocks(common.level),
            _ => 1,
        };
        let groups = blocks.div_ceil(most);
        let group = blocks.div_ceil(groups);
        let run = |block: usize, rows: Range<usize>, to: &mut [Target<'_>], workspace: &mut Workspace<'_>| {
            let count = self.epilogue.parameters();
            let parameters = &parameters[block * count..(block + to.len()) * count];
            let part = Part {
                level: common.level,
                block,
                rows,
                width,
                pitch: width,
                offset: common.offset,
                affine: parameters,
                post: common.post,
            };
            match self.epilogue {
                Epilogue::Affine => self.convolve(source, &part, to, workspace),
                Epilogue::Kernel => self.clr(source, &part, parameters, to, workspace),
            }
        };
        let mut planes = target.chunks(rows * width);
        if self.threads == 1 {
            return self.lend_workspace(source.padding, group, |workspace| {
                for block in (0..blocks).step_by(group) {
                    let count = group.min(blocks - block);
                    let mut to: [Target<'_>; MAX_BLOCKS] = std::array::from_fn(|_| Target::empty());
                    to[..count]
                        .iter_mut()
                        .zip(&mut planes)
                        .for_each(|(to, plane)| *to = plane);
                    run(block, 0..rows, &mut to[..count], workspace);
                }
            });
        }
        let splits = (2 * self.threads).div_ceil(groups).min(rows);
        let per_split = rows.div_ceil(splits);
        let mut tasks = Vec::with_capacity(groups * splits);
        for (block, plane) in planes.enumerate() {
            let parts: Vec<_> = plane.chunks(per_split * width).collect();
            if block.is_multiple_of(group) {
                tasks.extend(parts.into_iter().enumerate().map(|(split, part)| Task {
                    block,
                    rows: split * per_split..((split + 1) * per_split).min(rows),
                    to: vec![part],
                }));
            } else {
                let first = tasks.len() - parts.len();
                for (task, part) in tasks[first..].iter_mut().zip(parts) {
                    task.to.push(part);
                }
            }
        }
        tasks.into_par_iter().for_each(|mut task| {
            self.lend_workspace(source.padding, group, |workspace| {
                run(task.block, task.rows, &mut task.to, workspace);
            });
        });
    }

    /// Computes some rows of the convolution.
    pub(super) fn convolve(
        &self,
        source: &Source<'_>,
        part: &Part<'_>,
        to: &mut [Target<'_>],
        workspace: &mut Workspace<'_>,
    ) {
        match &self.weights.packed {
            Packed::Depthwise { steps, columns } => {
                self.depthwise(source, (steps, *columns), part, &mut to[0], workspace);
            }
            Packed::Dense { steps, reads, lanes } => self.dense(source, (steps, reads, *lanes), part, to),
        }
    }
}

/// What the tasks of a run have in common.
#[derive(Clone, Copy)]
struct Common {
    level: Level,
    offset: i32,
    post: Post,
}

/// Some rows of some output blocks from `block` on, with one target per block.
struct Task<'a> {
    block: usize,
    rows: Range<usize>,
    to: Vec<Target<'a>>,
}
