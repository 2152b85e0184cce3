//! Convolution weights in the order in which the kernels read them. Packed once per engine, shared by every plan.

use clr_onnx::Conv;

use super::lanes::LANES;

/// A frozen convolution, without bias.
#[derive(Debug)]
pub(crate) struct PackedConv {
    pub out_channels: usize,
    pub in_channels: usize,
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    pub weights: Weights,
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
    /// Packs `conv`. With `picture`, its input is the picture `[H, W, C]` rather than blocks.
    pub(crate) fn new(conv: &Conv, picture: bool) -> Self {
        let out_channels = conv.channels();
        let per_group = conv.weight.shape()[1];
        let in_channels = per_group * conv.group;
        let weights = if conv.group == out_channels && per_group == 1 && conv.group > 1 && !picture {
            pack_depthwise(conv)
        } else {
            pack_dense(conv, in_channels, if picture { in_channels } else { LANES })
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

    /// Blocks of 16 output channels.
    pub(crate) fn out_blocks(&self) -> usize {
        self.out_channels.div_ceil(LANES)
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        let (Weights::Dense { data, .. } | Weights::Depthwise(data)) = &self.weights;
        size_of_val(data.as_slice())
    }
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
