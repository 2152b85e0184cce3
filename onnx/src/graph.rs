//! Canonical graph: the frozen part of a backbone, from the image to the features that its classifier reads.
//!
//! Values are NCHW f32 with a symbolic batch. Every node has exactly one output, so node `i` produces value `i + 1`;
//! value 0 is the image input. Nodes are in topological order.

use std::sync::Arc;

use crate::{ConvWeight, Quantisation, Tensor, opaque::Opaque, resize::Resize};

/// A value of the graph: 0 is the image, `i + 1` is the output of node `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

impl ValueId {
    /// The image input.
    pub const IMAGE: Self = Self(0);

    /// Returns the node that produces this value; `None` for the image.
    pub fn producer(self) -> Option<usize> {
        self.0.checked_sub(1)
    }

    /// Returns the value that node `index` produces.
    pub fn of_node(index: usize) -> Self {
        Self(index + 1)
    }
}

/// An operation on earlier values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The node's name, unique within the graph. A Conv's name is also its site's name.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The values that the node reads.
    pub inputs: Vec<ValueId>,
}

/// A frozen backbone's computation.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Channels of the image input (3).
    pub input_channels: usize,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The features: `[N, F]`, which the classifier reads.
    pub features: ValueId,
}

impl Graph {
    /// Returns the grid on which each value lies, by [`ValueId`]: that of its rounding, which operations that only move or
    /// compare values keep.
    pub fn grids(&self) -> Vec<Option<Quantisation>> {
        let mut grids = vec![None];
        for node in &self.nodes {
            let grid = node.grid(&grids);
            grids.push(grid);
        }
        grids
    }
}

impl Node {
    /// Returns the grid on which the node's value lies, from those of earlier values.
    pub(crate) fn grid(&self, grids: &[Option<Quantisation>]) -> Option<Quantisation> {
        let mut inputs = self.inputs.iter().map(|input| grids.get(input.0).copied().flatten());
        let first = inputs.next().flatten();
        match &self.op {
            Op::FakeQuantise(grid) => Some(*grid),
            Op::MaxPool(_)
            | Op::Flatten
            | Op::Unflatten
            | Op::GatherChannels { .. }
            | Op::Crop { .. }
            | Op::Activation(Activation::Relu)
            | Op::Pad {
                mode: PadMode::Constant(0.0) | PadMode::Reflect | PadMode::Edge | PadMode::Wrap,
                ..
            } => first,
            Op::Concat => first.filter(|_| inputs.all(|other| other == first)),
            _ => None,
        }
    }
}

/// An operation. Weights are part of it and never change.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// 2-D convolution (ONNX `Conv`).
    Conv(Conv),
    /// Inference-mode batch normalisation (ONNX `BatchNormalization`).
    BatchNorm(BatchNorm),
    /// An element-wise activation without weights.
    Activation(Activation),
    /// `x if x ≥ 0 else slope · x`, slope `[C]` (ONNX `PRelu`).
    PRelu {
        /// `[C]`.
        slope: Tensor,
    },
    /// `x · scale + bias` per channel, from a Mul or Add of constants in the file. Both `[C]`.
    ChannelAffine {
        /// `[C]`.
        scale: Tensor,
        /// `[C]`.
        bias: Tensor,
    },
    /// Sum of two values. If one is `[N, C, H, W]`, the other may be `[N, C, 1, 1]` or `[N, 1, H, W]`.
    Add,
    /// Product of two values. If one is `[N, C, H, W]`, the other may be `[N, C, 1, 1]` or `[N, 1, H, W]`.
    Mul,
    /// Concatenation along the channels.
    Concat,
    /// Maximum over windows; padding never wins.
    MaxPool(Pool),
    /// Mean over windows.
    AveragePool(Pool),
    /// Mean over H and W: `[N, C, H, W]` to `[N, C, 1, 1]`.
    GlobalAveragePool,
    /// Spatial padding (ONNX `Pad`).
    Pad {
        /// Top, left, bottom, right.
        pads: [usize; 4],
        /// The padding values.
        mode: PadMode,
    },
    /// `[N, C, H, W]` to `[N, C · H · W]`.
    Flatten,
    /// Dense layer on `[N, I]`, inside the body (squeeze-and-excitation or a bottleneck): `weight [O, I]`, `bias [O]`.
    Dense {
        /// `[O, I]`.
        weight: Tensor,
        /// `[O]`.
        bias: Tensor,
    },
    /// `[N, C]` back to `[N, C, 1, 1]`.
    Unflatten,
    /// Output channel `c` is input channel `index[c]`, on a map or a vector. It covers Split, Slice and Gather along
    /// the channels, and channel shuffle.
    GatherChannels {
        /// Indices, each of which is below the number of input channels.
        index: Arc<[u32]>,
    },
    /// A rectangle of a map (ONNX `Slice` of rows and columns). Output row `i` is input row `start[0] + i · step[0]`.
    Crop {
        /// First row, first column.
        start: [usize; 2],
        /// Rows, columns of the output.
        size: [usize; 2],
        /// Rows, columns; at least 1.
        step: [usize; 2],
    },
    /// Normalisation over the channels of each pixel, or over a vector (ONNX `LayerNormalization`):
    /// `(x − mean) / √(variance + epsilon) · scale + bias`.
    LayerNorm {
        /// `[C]`.
        scale: Tensor,
        /// `[C]`.
        bias: Tensor,
        /// ε.
        epsilon: f32,
    },
    /// Normalisation over all pixels and the channels of each group (ONNX `GroupNormalization`, or
    /// `InstanceNormalization` if every channel is a group).
    GroupNorm {
        /// Groups of consecutive channels; divides C.
        groups: usize,
        /// `[C]`.
        scale: Tensor,
        /// `[C]`.
        bias: Tensor,
        /// ε.
        epsilon: f32,
    },
    /// Global response normalisation (Woo et al. 2023): `scale · x · g / (mean_c g + epsilon) + bias + x`. Here `g` is
    /// the Euclidean norm of a channel over height and width, and `mean_c` is the mean over the channels.
    GlobalResponseNorm {
        /// `[C]`.
        scale: Tensor,
        /// `[C]`.
        bias: Tensor,
        /// ε.
        epsilon: f32,
    },
    /// 1-D convolution along the channels of `[N, C, 1, 1]` or `[N, C]`. One kernel serves all positions (efficient
    /// channel attention).
    ChannelConv {
        /// `[K]`.
        kernel: Tensor,
        /// Added to every channel.
        bias: f32,
        /// Number of zeros before the first channel and after the last.
        pads: [usize; 2],
    },
    /// Softmax over the groups of `[N, G · C, 1, 1]` or `[N, G · C]`, viewed as `[N, G, C]`: for each of the C
    /// channels, its G values sum to 1 (split attention, selective kernels).
    Softmax {
        /// G.
        groups: usize,
    },
    /// Rounding to a grid of 256 values (ONNX `QuantizeLinear` followed by `DequantizeLinear`, opset 13). It is what a
    /// value loses where it is stored in 8 bits.
    FakeQuantise(Quantisation),
    /// Interpolation of a map (ONNX `Resize`).
    Resize(Resize),
    /// A part of the network that no other operation expresses, kept as the ONNX nodes that compute it.
    Opaque(Arc<Opaque>),
}

/// The values that a [`Op::Pad`] adds around a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// The padding has this value.
    Constant(f32),
    /// The map is mirrored at its border pixels, which are not repeated.
    Reflect,
    /// The border pixels are repeated.
    Edge,
    /// The map is continued from its opposite side.
    Wrap,
}

impl Op {
    /// Returns the corresponding ONNX operator.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv(_) => "Conv",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Activation(activation) => activation.name(),
            Self::PRelu { .. } => "PRelu",
            Self::ChannelAffine { .. } => "Mul and Add of constants",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::MaxPool(_) => "MaxPool",
            Self::AveragePool(_) => "AveragePool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Pad { .. } => "Pad",
            Self::Flatten => "Flatten",
            Self::Dense { .. } => "Gemm",
            Self::Unflatten => "Unsqueeze",
            Self::GatherChannels { .. } => "Gather of channels",
            Self::Crop { .. } => "Slice",
            Self::LayerNorm { .. } => "LayerNormalization",
            Self::GroupNorm { .. } => "GroupNormalization",
            Self::GlobalResponseNorm { .. } => "global response normalisation",
            Self::ChannelConv { .. } => "Conv along channels",
            Self::Softmax { .. } => "Softmax",
            Self::FakeQuantise(_) => "QuantizeLinear and DequantizeLinear",
            Self::Resize(_) => "Resize",
            Self::Opaque(_) => "opaque step",
        }
    }
}

/// A 2-D convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// `[O, I / group, kh, kw]`.
    pub weight: ConvWeight,
    /// `[O]`, if the convolution has a bias.
    pub bias: Option<Tensor>,
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Number of groups.
    pub group: usize,
    /// Zero padding of the input.
    pub padding: Padding,
}

impl Conv {
    /// Returns the number of output channels.
    pub fn channels(&self) -> usize {
        self.weight.shape()[0]
    }

    /// Returns the numbers of rows and columns of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        [self.weight.shape()[2], self.weight.shape()[3]]
    }
}

/// Frozen batch normalisation: `(x − mean) / √(variance + epsilon) · scale + bias`. All vectors `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// γ.
    pub scale: Tensor,
    /// β.
    pub bias: Tensor,
    /// μ.
    pub mean: Tensor,
    /// σ².
    pub variance: Tensor,
    /// ε.
    pub epsilon: f32,
}

/// An element-wise activation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`; infinite bounds are allowed. `Clip { 0, 6 }` is `ReLU6`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `x if x ≥ 0 else alpha · x`.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + e^−x)`.
    Sigmoid,
    /// `min(max(alpha · x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x · min(max(x / 6 + ½, 0), 1)`.
    HardSwish,
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x) = x · (1 + erf(x / √2)) / 2`.
    Gelu,
    /// `x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2`.
    GeluTanh,
    /// `tanh(x)`.
    Tanh,
    /// `x if x ≥ 0 else alpha · (e^x − 1)`.
    Elu {
        /// The activation approaches `-alpha` for large negative `x`.
        alpha: f32,
    },
    /// `x · tanh(ln(1 + e^x))`.
    Mish,
}

impl Activation {
    /// Returns the corresponding ONNX operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::Clip { .. } => "Clip",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Sigmoid => "Sigmoid",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Silu => "x·Sigmoid(x)",
            Self::Gelu | Self::GeluTanh => "Gelu",
            Self::Tanh => "Tanh",
            Self::Elu { .. } => "Elu",
            Self::Mish => "Mish",
        }
    }

    /// Checks the parameters. The error states the reason.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Clip { min, max } if min > max || min.is_nan() || max.is_nan() => {
                Err(format!("Clip: expected min ≤ max, got {min} and {max}"))
            }
            Self::LeakyRelu { alpha } | Self::Elu { alpha } if !alpha.is_finite() => {
                Err(format!("{}: alpha is {alpha}", self.name()))
            }
            Self::HardSigmoid { alpha, beta } if !(alpha.is_finite() && beta.is_finite()) => {
                Err(format!("HardSigmoid: alpha is {alpha}, beta {beta}"))
            }
            _ => Ok(()),
        }
    }
}

/// A pooling window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Padding of the input.
    pub padding: Padding,
    /// Whether the last, partial window is included (ONNX `ceil_mode`).
    pub ceil: bool,
    /// Whether an average includes the padding (ONNX `count_include_pad`).
    pub count_include_pad: bool,
}

/// Padding of a window operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
    /// `output = ⌈input / stride⌉`; an odd pixel is added at the bottom and right (TensorFlow SAME).
    SameUpper,
    /// `output = ⌈input / stride⌉`; an odd pixel is added at the top and left.
    SameLower,
}

impl Padding {
    /// Returns the padding at top, left, bottom and right for an input of `size` (rows, columns).
    pub fn resolve(self, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2]) -> [usize; 4] {
        let total = |axis: usize| {
            let output = size[axis].div_ceil(stride[axis]);
            ((output.max(1) - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1).saturating_sub(size[axis])
        };
        match self {
            Self::Explicit(pads) => pads,
            Self::SameUpper => {
                let (h, w) = (total(0), total(1));
                [h / 2, w / 2, h - h / 2, w - w / 2]
            }
            Self::SameLower => {
                let (h, w) = (total(0), total(1));
                [h - h / 2, w - w / 2, h / 2, w / 2]
            }
        }
    }
}
