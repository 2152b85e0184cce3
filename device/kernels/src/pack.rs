//! Convolution weights in the order in which the kernels read them. Packed once per engine, shared by every plan.

use clr_onnx::Conv;

use super::{simd::LANES, winograd::transform_weights};

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
    /// Output block by output block: `[input blocks][kh][kw][16 i][16 o]`.
    Dense {
        /// All blocks, one after another.
        data: Vec<f32>,
        /// Which input blocks each output block reads, and where its weights start.
        reads: Vec<Reads>,
        /// Channels per input block: 16, or the picture's own three.
        lanes: usize,
    },
    /// One filter per channel: `[C / 16][kh · kw][16]`.
    Depthwise(Vec<f32>),
    /// 3×3 filters transformed by Winograd's algorithm: `[O / 16][36][I][16]`.
    Winograd(Vec<f32>),
}

/// How a convolution is computed, which decides how its weights are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// From the picture `[H, W, C]` rather than from blocks.
    Picture,
    /// From blocks.
    Direct,
    /// From blocks, by Winograd's algorithm.
    Winograd,
}

impl Form {
    /// The faster form for feature maps of `output` rows × columns.
    ///
    /// On small maps Winograd's weights, four times as many, cost more to read than the multiplications they save.
    pub fn choose(conv: &Conv, picture: bool, output: [usize; 2]) -> Self {
        /// Pixels from which Winograd's algorithm is used.
        const ENOUGH: usize = 20 * 20;
        let small = [conv.stride, conv.dilation] == [[1; 2]; 2] && conv.group == 1 && conv.kernel() == [3; 2];
        match picture {
            true => Self::Picture,
            false if small && output[0] * output[1] >= ENOUGH && conv.weight.shape()[1] >= LANES => Self::Winograd,
            false => Self::Direct,
        }
    }
}

/// The input blocks of one output block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// The first input block.
    pub first: usize,
    /// The number of input blocks.
    pub blocks: usize,
    /// Where the weights start in the data.
    pub offset: usize,
}

impl PackedConv {
    /// Packs `conv`.
    pub fn new(conv: &Conv, form: Form) -> Self {
        let out_channels = conv.channels();
        let per_group = conv.weight.shape()[1];
        let in_channels = per_group * conv.group;
        let weights = match form {
            Form::Picture => pack_dense(conv, in_channels, in_channels),
            Form::Direct if conv.group == out_channels && per_group == 1 && conv.group > 1 => pack_depthwise(conv),
            Form::Direct => pack_dense(conv, in_channels, LANES),
            Form::Winograd => Weights::Winograd(transform_weights(conv)),
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

    /// Bytes that the weights of `conv` would take when packed, without packing them.
    pub fn bytes_of(conv: &Conv, form: Form) -> usize {
        let (out_channels, per_group) = (conv.channels(), conv.weight.shape()[1]);
        let inputs = if conv.group == out_channels && per_group == 1 && conv.group > 1 {
            1
        } else {
            // Groups narrower than a block are filled up with zeros.
            per_group
                * LANES
                    .div_ceil((out_channels / conv.group.max(1)).max(1))
                    .min(conv.group.max(1))
        };
        packed_bytes(out_channels, inputs, conv.kernel(), form == Form::Winograd)
    }

    /// Blocks of 16 output channels.
    pub fn out_blocks(&self) -> usize {
        self.out_channels.div_ceil(LANES)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let (Weights::Dense { data, .. } | Weights::Depthwise(data) | Weights::Winograd(data)) = &self.weights;
        size_of_val(data.as_slice())
    }
}

/// Bytes of filters that read `inputs` channels each.
pub(crate) fn packed_bytes(out_channels: usize, inputs: usize, kernel: [usize; 2], winograd: bool) -> usize {
    let taps = if winograd { 36 } else { kernel[0] * kernel[1] };
    out_channels.div_ceil(LANES) * LANES * taps * inputs * size_of::<f32>()
}

fn pack_depthwise(conv: &Conv) -> Weights {
    let [rows, columns] = conv.kernel();
    let taps = rows * columns;
    let mut data = vec![0.0; conv.channels().div_ceil(LANES) * taps * LANES];
    for (channel, filter) in conv.weight.data().chunks_exact(taps).enumerate() {
        for (tap, &weight) in filter.iter().enumerate() {
            data[(channel / LANES * taps + tap) * LANES + channel % LANES] = weight;
        }
    }
    Weights::Depthwise(data)
}

fn pack_dense(conv: &Conv, in_channels: usize, lanes: usize) -> Weights {
    let out_channels = conv.channels();
    let (out_group, in_group) = (out_channels / conv.group, conv.weight.shape()[1]);
    let [rows, columns] = conv.kernel();
    let taps = rows * columns;
    let weight = conv.weight.data();
    let mut data = Vec::new();
    let mut reads = Vec::new();
    for first_out in (0..out_channels).step_by(LANES) {
        let last_out = (first_out + LANES).min(out_channels) - 1;
        let first = first_out / out_group * in_group / lanes;
        let end = ((last_out / out_group + 1) * in_group).div_ceil(lanes);
        reads.push(Reads {
            first,
            blocks: end - first,
            offset: data.len(),
        });
        for block in first..end {
            let inputs = (block * lanes)..((block + 1) * lanes).min(in_channels);
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
