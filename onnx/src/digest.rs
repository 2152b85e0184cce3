//! Digest of a backbone: SHA-256 over a canonical encoding of its frozen graph.
//!
//! Encoding, version 1. Integers are little-endian u64, and floats are their little-endian IEEE bits. A string is its
//! length in bytes and its UTF-8. A list is its length and its elements. A tensor is the list of its dimensions,
//! followed by its values.
//!
//! ```text
//! "clr-backbone" | version | input channels | feature value | list of nodes
//! node    = name | list of input values | tag (u8) | fields of the operation in the order of the Rust type
//! padding = 0 top left bottom right | 1 (SAME_UPPER) | 2 (SAME_LOWER)      (tag: u8)
//! option  = 0 | 1 value                                                    (tag: u8)
//! weights = a tensor, or (with tag 26 in place of 0) dimensions, integers (i8) and a scale for each output channel
//! opaque  = length | bytes of its ModelProto, in which names and constants have one form | batch of one only (u8)
//! ```
//! If the backbone has units of biases ([`Backbone::bias_units`](crate::Backbone::bias_units)), `"bias units"` and a list of f16 for each site
//! follow, because they change the meaning of compact adapters.
//!
//! The digest does not depend on the classifier, labels, preprocessing, the backbone's name or the bytes of any file.

use clr_adapters::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    ConvWeight, Quantisation, Tensor,
    bias_units::BiasUnits,
    graph::{Activation, Graph, Op, PadMode, Padding, Pool},
    resize::{Coordinates, Resize, ResizeMode, ResizeTarget, Rounding},
};

/// Version of the encoding. A change gives every backbone a new digest, which no existing adapter fits.
const VERSION: usize = 1;

/// Returns the digest of a graph and of the units of its sites' biases.
pub(crate) fn digest(graph: &Graph, bias_units: Option<&BiasUnits>) -> Digest {
    let mut out = Encoder(Sha256::new());
    out.0.update(b"clr-backbone");
    out.number(VERSION);
    out.number(graph.input_channels);
    out.number(graph.features.0);
    out.number(graph.nodes.len());
    for node in &graph.nodes {
        out.number(node.name.len());
        out.0.update(node.name.as_bytes());
        out.number(node.inputs.len());
        node.inputs.iter().for_each(|input| out.number(input.0));
        out.op(&node.op);
    }
    if let Some(units) = bias_units {
        out.0.update(b"bias units");
        for site in units.sites() {
            out.number(site.len());
            for unit in site {
                out.0.update(unit.to_le_bytes());
            }
        }
    }
    Digest(out.0.finalize().into())
}

struct Encoder(Sha256);

impl Encoder {
    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn number(&mut self, value: usize) {
        self.0.update((value as u64).to_le_bytes());
    }

    fn numbers(&mut self, values: &[usize]) {
        for &value in values {
            self.number(value);
        }
    }

    fn float(&mut self, value: f32) {
        self.0.update(value.to_le_bytes());
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.number(tensor.shape().len());
        self.numbers(tensor.shape());
        let mut buffer = [0; 4096];
        for chunk in tensor.data().chunks(buffer.len() / 4) {
            for (bytes, value) in buffer.chunks_exact_mut(4).zip(chunk) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            self.0.update(&buffer[..chunk.len() * 4]);
        }
    }

    /// Encodes the tag and the weights of a convolution.
    fn weight(&mut self, weight: &ConvWeight) {
        match weight {
            ConvWeight::Float(tensor) => {
                self.tag(0);
                self.tensor(tensor);
            }
            ConvWeight::Int8(tensor) => {
                self.tag(26);
                self.number(tensor.shape().len());
                self.numbers(tensor.shape());
                let mut buffer = [0; 4096];
                for chunk in tensor.values().chunks(buffer.len()) {
                    for (byte, value) in buffer.iter_mut().zip(chunk) {
                        *byte = value.cast_unsigned();
                    }
                    self.0.update(&buffer[..chunk.len()]);
                }
                tensor.scale().iter().for_each(|scale| self.float(*scale));
            }
        }
    }

    fn padding(&mut self, padding: Padding) {
        match padding {
            Padding::Explicit(pads) => {
                self.tag(0);
                self.numbers(&pads);
            }
            Padding::SameUpper => self.tag(1),
            Padding::SameLower => self.tag(2),
        }
    }

    fn pool(&mut self, pool: &Pool) {
        self.numbers(&pool.kernel);
        self.numbers(&pool.stride);
        self.padding(pool.padding);
        self.tag(pool.ceil.into());
        self.tag(pool.count_include_pad.into());
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Conv(conv) => {
                self.weight(&conv.weight);
                self.tag(conv.bias.is_some().into());
                if let Some(bias) = &conv.bias {
                    self.tensor(bias);
                }
                self.numbers(&conv.stride);
                self.numbers(&conv.dilation);
                self.number(conv.group);
                self.padding(conv.padding);
            }
            Op::BatchNorm(norm) => {
                self.tag(1);
                for tensor in [&norm.scale, &norm.bias, &norm.mean, &norm.variance] {
                    self.tensor(tensor);
                }
                self.float(norm.epsilon);
            }
            Op::Activation(activation) => {
                self.tag(2);
                self.activation(*activation);
            }
            Op::PRelu { slope } => {
                self.tag(3);
                self.tensor(slope);
            }
            Op::ChannelAffine { scale, bias } => {
                self.tag(4);
                self.tensor(scale);
                self.tensor(bias);
            }
            Op::Add => self.tag(5),
            Op::Mul => self.tag(6),
            Op::Concat => self.tag(7),
            Op::MaxPool(pool) => {
                self.tag(8);
                self.pool(pool);
            }
            Op::AveragePool(pool) => {
                self.tag(9);
                self.pool(pool);
            }
            Op::GlobalAveragePool => self.tag(10),
            Op::Pad {
                pads,
                mode: PadMode::Constant(value),
            } => {
                self.tag(11);
                self.numbers(pads);
                self.float(*value);
            }
            Op::Flatten => self.tag(12),
            Op::Dense { weight, bias } => {
                self.tag(13);
                self.tensor(weight);
                self.tensor(bias);
            }
            Op::Unflatten => self.tag(14),
            other => self.later_op(other),
        }
    }

    /// Encodes operations that were added later, so that the digests of graphs without them stay the same.
    fn later_op(&mut self, op: &Op) {
        match op {
            Op::GatherChannels { index } => {
                self.tag(15);
                self.number(index.len());
                index.iter().for_each(|&channel| self.number(channel as usize));
            }
            Op::Crop { start, size, step } => {
                self.tag(16);
                for pair in [start, size, step] {
                    self.numbers(pair);
                }
            }
            Op::LayerNorm { scale, bias, epsilon } => {
                self.tag(17);
                self.norm(scale, bias, *epsilon);
            }
            Op::GroupNorm {
                groups,
                scale,
                bias,
                epsilon,
            } => {
                self.tag(18);
                self.number(*groups);
                self.norm(scale, bias, *epsilon);
            }
            Op::GlobalResponseNorm { scale, bias, epsilon } => {
                self.tag(19);
                self.norm(scale, bias, *epsilon);
            }
            Op::ChannelConv { kernel, bias, pads } => {
                self.tag(20);
                self.tensor(kernel);
                self.float(*bias);
                self.numbers(pads);
            }
            Op::Softmax { groups } => {
                self.tag(21);
                self.number(*groups);
            }
            Op::Resize(resize) => {
                self.tag(22);
                self.resize(resize);
            }
            Op::Pad { pads, mode } => {
                self.tag(23);
                self.numbers(pads);
                self.tag(match mode {
                    PadMode::Constant(_) => 0,
                    PadMode::Reflect => 1,
                    PadMode::Edge => 2,
                    PadMode::Wrap => 3,
                });
            }
            Op::Opaque(opaque) => {
                self.tag(24);
                let bytes = opaque.model();
                self.number(bytes.len());
                self.0.update(&bytes);
                self.tag(opaque.is_single().into());
            }
            Op::FakeQuantise(Quantisation { scale, zero_point }) => {
                self.tag(25);
                self.float(*scale);
                self.tag(*zero_point);
            }
            // `Encoder::op` encodes all other operations.
            _ => {}
        }
    }

    fn norm(&mut self, scale: &Tensor, bias: &Tensor, epsilon: f32) {
        self.tensor(scale);
        self.tensor(bias);
        self.float(epsilon);
    }

    fn resize(&mut self, resize: &Resize) {
        match resize.target {
            ResizeTarget::Size(size) => {
                self.tag(0);
                self.numbers(&size);
            }
            ResizeTarget::Scale(scale) => {
                self.tag(1);
                for factor in scale {
                    self.float(factor);
                }
            }
        }
        self.tag(match resize.mode {
            ResizeMode::Bilinear => 0,
            ResizeMode::Nearest(Rounding::PreferFloor) => 1,
            ResizeMode::Nearest(Rounding::PreferCeil) => 2,
            ResizeMode::Nearest(Rounding::Floor) => 3,
            ResizeMode::Nearest(Rounding::Ceil) => 4,
        });
        self.tag(match resize.coordinates {
            Coordinates::HalfPixel => 0,
            Coordinates::HalfPixelSymmetric => 1,
            Coordinates::PytorchHalfPixel => 2,
            Coordinates::AlignCorners => 3,
            Coordinates::Asymmetric => 4,
        });
    }

    fn activation(&mut self, activation: Activation) {
        match activation {
            Activation::Relu => self.tag(0),
            Activation::Clip { min, max } => {
                self.tag(1);
                self.float(min);
                self.float(max);
            }
            Activation::LeakyRelu { alpha } => {
                self.tag(2);
                self.float(alpha);
            }
            Activation::Sigmoid => self.tag(3),
            Activation::HardSigmoid { alpha, beta } => {
                self.tag(4);
                self.float(alpha);
                self.float(beta);
            }
            Activation::HardSwish => self.tag(5),
            Activation::Silu => self.tag(6),
            Activation::Gelu => self.tag(7),
            Activation::GeluTanh => self.tag(8),
            Activation::Tanh => self.tag(9),
            Activation::Elu { alpha } => {
                self.tag(10);
                self.float(alpha);
            }
            Activation::Mish => self.tag(11),
        }
    }
}
