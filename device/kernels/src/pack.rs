//! Convolution weights in the order in which the kernels read them. They are packed once per engine and shared by all
//! plans.

use clr_onnx::Conv;

use super::{
    simd::LANES,
    winograd::{TransformedWeights, Winograd, transform_weights},
};

/// A frozen convolution, without bias.
#[derive(Debug)]
pub struct PackedConv {
    /// `O`.
    pub out_channels: usize,
    /// `I`.
    pub in_channels: usize,
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    pub(crate) weights: Weights,
}

/// The weights of a [`PackedConv`].
#[derive(Debug)]
pub(crate) enum Weights {
    /// For each output block: `[input blocks][kh][kw][16 i][16 o]`.
    Dense {
        /// All blocks in sequence.
        data: Vec<f32>,
        /// For each output block, the input blocks that it reads and the start of its weights.
        reads: Vec<Reads>,
        /// Number of channels per input block: 16, or the image's own three.
        lanes: usize,
    },
    /// Groups with `width` input and output channels, where `width` is 1 (depthwise), 2 or 4: `[C / 16][kh · kw][width
    /// i][16 o]`.
    Narrow {
        /// All blocks in sequence.
        taps: Vec<f32>,
        /// Channels of a group.
        width: usize,
    },
    /// 3×3 filters transformed by Winograd's algorithm.
    Winograd(TransformedWeights),
}

/// Form in which a convolution is computed. It determines how the weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Reads the image `[H, W, C]` in place of blocks.
    Image,
    /// Direct convolution; the input is in blocks.
    Direct,
    /// Winograd's algorithm; the input is in blocks.
    Winograd(Winograd),
}

impl Form {
    /// Returns the fastest form for feature maps of `output` (rows, columns). The estimate counts, per pair of input
    /// and output channel, the multiplications and the weights to read.
    pub fn choose(conv: &Conv, image: bool, output: [usize; 2]) -> Self {
        if image {
            Self::Image
        } else {
            Self::from_blocks(conv, conv.weight.shape()[1], output)
        }
    }

    /// Returns the fastest form for a convolution like `conv` with `inputs` input channels per group.
    pub(crate) fn from_blocks(conv: &Conv, inputs: usize, output: [usize; 2]) -> Self {
        /// Number of multiplications that take as long as reading one weight.
        const READING: usize = 10;
        let small = [conv.stride, conv.dilation] == [[1; 2]; 2] && conv.group == 1 && conv.kernel() == [3; 2];
        if !small || inputs < LANES {
            return Self::Direct;
        }
        let winograd = [Winograd::F2, Winograd::F4].map(|winograd| {
            let tiles: usize = winograd.tiles(output).iter().product();
            (winograd.points() * (tiles + READING), Self::Winograd(winograd))
        });
        let direct = (9 * (output[0] * output[1] + READING), Self::Direct);
        let forms = [direct].into_iter().chain(winograd);
        forms
            .min_by_key(|(cost, _)| *cost)
            .map_or(Self::Direct, |(_, form)| form)
    }
}

/// The input channels that an output block reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// The first input block.
    pub first: usize,
    /// The number of input blocks.
    pub blocks: usize,
    /// Number of channels of the first block that are not read.
    pub skip: usize,
    /// Number of channels of the last block, up to the last one that is read.
    pub last: usize,
    /// Start of the weights in the data.
    pub offset: usize,
}

impl Reads {
    /// Creates the entry for the output block whose first channel is `out`, in a convolution to `out_channels` with
    /// groups of `[out, in]` channels.
    pub(crate) fn new(
        out: usize,
        out_channels: usize,
        [out_group, in_group]: [usize; 2],
        lanes: usize,
        offset: usize,
    ) -> Self {
        let last_out = (out + LANES).min(out_channels) - 1;
        let (start, end) = (out / out_group * in_group, (last_out / out_group + 1) * in_group);
        let first = start / lanes;
        let blocks = end.div_ceil(lanes) - first;
        Self {
            first,
            blocks,
            skip: start % lanes,
            last: end - (first + blocks - 1) * lanes,
            offset,
        }
    }

    /// The number of input channels.
    pub(crate) fn channels(&self, lanes: usize) -> usize {
        (self.blocks - 1) * lanes + self.last - self.skip
    }
}

/// Returns whether all output blocks read the same input.
pub(crate) fn uniform(reads: &[Reads]) -> bool {
    reads
        .iter()
        .all(|read| Reads { offset: 0, ..*read } == Reads { offset: 0, ..reads[0] })
}

/// Returns the width of groups that are computed without the zeros between them; the groups must have equal numbers of
/// input and output channels. For wider groups, multiplying the zeros of a block takes less time than handling the
/// channels separately.
fn narrow(group: usize, out_channels: usize, per_group: usize) -> Option<usize> {
    (group > 1 && per_group * group == out_channels && [1, 2, 4].contains(&per_group)).then_some(per_group)
}

impl PackedConv {
    /// Packs `conv`.
    pub fn new(conv: &Conv, form: Form) -> Self {
        let out_channels = conv.channels();
        let per_group = conv.weight.shape()[1];
        let in_channels = per_group * conv.group;
        let weights = match form {
            Form::Image => pack_dense(conv, in_channels),
            Form::Direct => match narrow(conv.group, out_channels, per_group) {
                Some(width) => pack_narrow(conv, width),
                None => pack_dense(conv, LANES),
            },
            Form::Winograd(winograd) => Weights::Winograd(transform_weights(conv, winograd)),
        };
        Self {
            out_channels,
            in_channels,
            kernel: conv.kernel(),
            stride: conv.stride,
            dilation: conv.dilation,
            weights,
        }
    }

    /// Returns the bytes that the weights of `conv` would have when packed, without packing them.
    pub fn bytes_of(conv: &Conv, form: Form) -> usize {
        let (out_channels, per_group) = (conv.channels(), conv.weight.shape()[1]);
        packed_bytes(out_channels, per_group, conv.group, conv.kernel(), form)
    }

    /// Blocks of 16 output channels.
    pub fn out_blocks(&self) -> usize {
        self.out_channels.div_ceil(LANES)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let (Weights::Dense { data, .. }
        | Weights::Narrow { taps: data, .. }
        | Weights::Winograd(TransformedWeights { data, .. })) = &self.weights;
        size_of_val(data.as_slice())
    }
}

/// Returns the bytes of the packed weights of a convolution to `out_channels`, each with `per_group` input channels.
pub(crate) fn packed_bytes(
    out_channels: usize,
    per_group: usize,
    group: usize,
    kernel: [usize; 2],
    form: Form,
) -> usize {
    let taps = match form {
        Form::Winograd(winograd) => winograd.points(),
        Form::Image | Form::Direct => kernel[0] * kernel[1],
    };
    let groups = [out_channels / group, per_group];
    let blocks = (0..out_channels).step_by(LANES);
    let channels: usize = match narrow(group, out_channels, per_group) {
        Some(width) if form == Form::Direct => blocks.map(|_| width).sum(),
        _ => blocks
            .map(|out| Reads::new(out, out_channels, groups, LANES, 0).channels(LANES))
            .sum(),
    };
    channels * taps * LANES * size_of::<f32>()
}

fn pack_narrow(conv: &Conv, width: usize) -> Weights {
    let [rows, columns] = conv.kernel();
    let count = rows * columns;
    let mut taps = vec![0.0; conv.channels().div_ceil(LANES) * count * width * LANES];
    for (channel, filters) in conv.weight.values().chunks_exact(count * width).enumerate() {
        for (input, filter) in filters.chunks_exact(count).enumerate() {
            for (tap, &weight) in filter.iter().enumerate() {
                let at = ((channel / LANES * count + tap) * width + input) * LANES;
                taps[at + channel % LANES] = weight;
            }
        }
    }
    Weights::Narrow { taps, width }
}

fn pack_dense(conv: &Conv, lanes: usize) -> Weights {
    let out_channels = conv.channels();
    let groups @ [out_group, in_group] = [out_channels / conv.group, conv.weight.shape()[1]];
    let [rows, columns] = conv.kernel();
    let taps = rows * columns;
    let weight = conv.weight.values();
    let mut data = Vec::new();
    let mut reads = Vec::new();
    for first_out in (0..out_channels).step_by(LANES) {
        let last_out = (first_out + LANES).min(out_channels) - 1;
        let read = Reads::new(first_out, out_channels, groups, lanes, data.len());
        let start = read.first * lanes + read.skip;
        let end = start + read.channels(lanes);
        reads.push(read);
        for block in read.first..read.first + read.blocks {
            let inputs = (block * lanes).max(start)..((block + 1) * lanes).min(end);
            for tap in 0..taps {
                for input in inputs.clone() {
                    let at = data.len();
                    data.resize(at + LANES, 0.0);
                    for out in first_out..=last_out {
                        if let Some(within) = input.checked_sub(out / out_group * in_group).filter(|&i| i < in_group) {
                            data[at + out - first_out] = weight[(out * in_group + within) * taps + tap];
                        }
                    }
                }
            }
        }
    }
    Weights::Dense { data, reads, lanes }
}
