//! Weights of quantised convolutions in the order in which the kernels read them. They are packed once and shared by all
//! input sizes and all adapters.

use crate::{
    pack::Reads,
    simd::{LANES, int8::Step},
};

/// The shape of a convolution (ONNX `Conv`, opset 11). All pairs are rows, columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Shape {
    /// `O`.
    pub out_channels: usize,
    /// `I`.
    pub in_channels: usize,
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
    /// Distance between the positions that a window reads.
    pub dilation: [usize; 2],
    /// Number of groups.
    pub group: usize,
}

/// The layout of a convolution's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Form {
    /// Blocks of sixteen channels, `[⌈I / 16⌉, H, W, 16]`.
    Blocks,
    /// The image, `[H, W, 4]`: up to four channels; further bytes of a pixel are ignored.
    Image,
}

/// The packed weights of a quantised convolution, without bias and scale.
#[derive(Debug)]
pub struct Int8Weights {
    /// The shape of the convolution.
    pub shape: Int8Shape,
    /// `[⌈O / 16⌉][16]`: the sum of every output channel's weights.
    pub(crate) sums: Vec<[i32; LANES]>,
    /// `[⌈O / 16⌉][16]`: bounds of the absolute values of all possible sums of products.
    pub(crate) magnitudes: Vec<[f32; LANES]>,
    /// Whether all weights are at least −127.
    pub(crate) narrow: bool,
    pub(crate) packed: Packed,
}

/// The weights of an [`Int8Weights`].
#[derive(Debug)]
pub(crate) enum Packed {
    /// For each output block: `[input blocks][kh][kw][input quads]` steps.
    Dense {
        /// All steps in sequence.
        steps: Vec<Step>,
        /// For each output block, the input channels that it reads, and its first step.
        reads: Vec<Reads>,
        /// Channels per pixel of an input block: 16, or the image's 4.
        lanes: usize,
    },
    /// Depthwise: for each block `[kh][shift][columns]` steps.
    Depthwise {
        /// All steps in sequence.
        steps: Vec<Step>,
        /// How the columns are read.
        columns: Columns,
    },
}

/// How a depthwise convolution reads the columns of its input, four at a time. These four bytes of a channel are
/// multiplied by several sets of weights, one for each of several adjacent outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Number of adjacent outputs that share their columns: 1, 2 or 4.
    pub shifts: usize,
    /// Number of times that four columns are read.
    pub quads: usize,
    /// Distance between their first columns: 4, or the dilation, in which case only the first column of four is used.
    pub distance: usize,
}

impl Columns {
    fn new(shape: &Int8Shape) -> Self {
        let (kernel, stride, dilation) = (shape.kernel[1], shape.stride[1], shape.dilation[1]);
        if dilation > 1 {
            return Self {
                shifts: 1,
                quads: kernel,
                distance: dilation,
            };
        }
        let quads = |shifts: usize| (kernel + (shifts - 1) * stride).div_ceil(4);
        let shifts = if quads(4) == quads(1) {
            4
        } else if quads(2) == quads(1) {
            2
        } else {
            1
        };
        Self {
            shifts,
            quads: quads(1),
            distance: 4,
        }
    }
}

/// Returns the largest magnitude of `Σ w · (x − zero_point)` over all inputs and zero points, for the weights of a channel.
pub fn largest_sum(weights: &[i8]) -> u64 {
    let magnitudes = weights.iter().map(|weight| u64::from(weight.unsigned_abs()));
    u64::from(u8::MAX) * magnitudes.sum::<u64>()
}

impl Int8Weights {
    /// Packs `weights`, `[O, I / group, kh, kw]`, quantised symmetrically per output channel.
    pub fn new(shape: Int8Shape, weights: &[i8], form: Int8Form) -> Self {
        let Int8Shape {
            out_channels,
            in_channels,
            kernel: [rows, columns],
            group,
            ..
        } = shape;
        assert!(out_channels > 0 && in_channels > 0 && rows * columns > 0 && group > 0);
        assert!(out_channels.is_multiple_of(group) && in_channels.is_multiple_of(group));
        assert!(shape.stride.iter().chain(&shape.dilation).all(|&step| step > 0));
        let filter = in_channels / group * rows * columns;
        assert_eq!(weights.len(), out_channels * filter);
        let mut sums = vec![[0; LANES]; out_channels.div_ceil(LANES)];
        let mut magnitudes = vec![[0.0; LANES]; sums.len()];
        let channels = sums.as_flattened_mut().iter_mut().zip(magnitudes.as_flattened_mut());
        for (filter, (sum, magnitude)) in weights.chunks_exact(filter).zip(channels) {
            *sum = filter.iter().map(|&weight| i32::from(weight)).sum();
            *magnitude = largest_sum(filter) as f32;
        }
        let packed = match form {
            Int8Form::Image => {
                assert!(in_channels <= 4 && group == 1);
                pack_dense(&shape, weights, 4)
            }
            Int8Form::Blocks if group > 1 && group == in_channels && group == out_channels => {
                pack_depthwise(&shape, weights)
            }
            Int8Form::Blocks => pack_dense(&shape, weights, LANES),
        };
        Self {
            shape,
            sums,
            magnitudes,
            narrow: !weights.contains(&-128),
            packed,
        }
    }

    /// Blocks of 16 output channels.
    pub fn out_blocks(&self) -> usize {
        self.sums.len()
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let (Packed::Dense { steps, .. } | Packed::Depthwise { steps, .. }) = &self.packed;
        size_of_val(steps.as_slice()) + size_of_val(self.sums.as_slice()) + size_of_val(self.magnitudes.as_slice())
    }

    /// Channels per pixel of an input block.
    pub(crate) fn input_lanes(&self) -> usize {
        match self.packed {
            Packed::Dense { lanes, .. } => lanes,
            Packed::Depthwise { .. } => LANES,
        }
    }
}

fn pack_dense(shape: &Int8Shape, weights: &[i8], lanes: usize) -> Packed {
    let taps = shape.kernel[0] * shape.kernel[1];
    let groups @ [out_group, in_group] = [shape.out_channels, shape.in_channels].map(|channels| channels / shape.group);
    let mut steps = Vec::new();
    let mut reads = Vec::new();
    for first_out in (0..shape.out_channels).step_by(LANES) {
        let outs = first_out..(first_out + LANES).min(shape.out_channels);
        let read = Reads::new(first_out, shape.out_channels, groups, lanes, steps.len());
        let start = read.first * lanes + read.skip;
        let end = start + read.channels(lanes);
        reads.push(read);
        for block in read.first..read.first + read.blocks {
            let quads = start.max(block * lanes) / 4..end.min((block + 1) * lanes).div_ceil(4);
            for tap in 0..taps {
                for quad in quads.clone() {
                    let mut step = Step([0; 4 * LANES]);
                    for (out, to) in outs.clone().zip(step.0.as_chunks_mut::<4>().0) {
                        let first_in = out / out_group * in_group;
                        for (input, to) in (quad * 4..).zip(to) {
                            if let Some(within) = input.checked_sub(first_in).filter(|&within| within < in_group) {
                                *to = weights[(out * in_group + within) * taps + tap];
                            }
                        }
                    }
                    steps.push(step);
                }
            }
        }
    }
    Packed::Dense { steps, reads, lanes }
}

fn pack_depthwise(shape: &Int8Shape, weights: &[i8]) -> Packed {
    let columns = Columns::new(shape);
    let [rows, width] = shape.kernel;
    let mut steps = Vec::new();
    for filters in weights.chunks(LANES * rows * width) {
        for row in 0..rows {
            for shift in 0..columns.shifts {
                for quad in 0..columns.quads {
                    let mut step = Step([0; 4 * LANES]);
                    for (filter, to) in filters.chunks_exact(rows * width).zip(step.0.as_chunks_mut::<4>().0) {
                        if shape.dilation[1] == 1 {
                            for (column, to) in (quad * 4..).zip(to) {
                                let tap = column.checked_sub(shift * shape.stride[1]);
                                if let Some(tap) = tap.filter(|&tap| tap < width) {
                                    *to = filter[row * width + tap];
                                }
                            }
                        } else {
                            to[0] = filter[row * width + quad];
                        }
                    }
                    steps.push(step);
                }
            }
        }
    }
    Packed::Depthwise { steps, columns }
}
