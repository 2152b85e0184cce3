//! Operators without CUDA kernels, implemented with candle's own operations.
//!
//! They are slow, simple and differentiable on any device, and are the reference for the runtime's kernels.
//!
//! Maps are `[N, C, H, W]`, vectors `[N, F]`.

use candle_core::{Device, Result, Tensor};
use clr_onnx::{Op, PadMode, Taps};

/// An operator with its frozen tensors.
pub(crate) enum Plain {
    /// Rows and columns from `start` on, `size` of each, at a distance of `step`.
    Crop {
        start: [usize; 2],
        size: [usize; 2],
        step: [usize; 2],
    },
    Pad {
        pads: [usize; 4],
        mode: PadMode,
    },
    Resize(clr_onnx::Resize),
    LayerNorm(Norm),
    GroupNorm {
        groups: usize,
        norm: Norm,
    },
    GlobalResponseNorm(Norm),
    ChannelConv {
        kernel: Vec<f32>,
        bias: f32,
        pads: [usize; 2],
    },
    /// Softmax over this number of groups of channels.
    Softmax(usize),
}

/// Scale and bias `[C]` of a normalisation.
pub(crate) struct Norm {
    scale: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    fn new(scale: &clr_onnx::Tensor, bias: &clr_onnx::Tensor, epsilon: f32, device: &Device) -> Result<Self> {
        let vector = |tensor: &clr_onnx::Tensor| Tensor::from_slice(tensor.data(), tensor.data().len(), device);
        Ok(Self {
            scale: vector(scale)?,
            bias: vector(bias)?,
            epsilon: f64::from(epsilon),
        })
    }

    /// Reshapes a vector of the channels for broadcasting with `x`.
    fn along_channels(vector: &Tensor, x: &Tensor) -> Result<Tensor> {
        let mut shape = vec![1; x.rank()];
        shape[1] = vector.elem_count();
        vector.reshape(shape)
    }

    /// Computes `(x − mean) / √(variance + epsilon)` along one dimension.
    fn normalise(&self, x: &Tensor, dimension: usize) -> Result<Tensor> {
        let apart = x.broadcast_sub(&x.mean_keepdim(dimension)?)?;
        let variance = apart.sqr()?.mean_keepdim(dimension)?;
        apart.broadcast_div(&(variance + self.epsilon)?.sqrt()?)
    }

    /// Computes `x · scale + bias`.
    fn affine(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&Self::along_channels(&self.scale, x)?)?
            .broadcast_add(&Self::along_channels(&self.bias, x)?)
    }
}

impl Plain {
    /// Returns the operator in candle; `None` if it is not implemented.
    pub(crate) fn new(op: &Op, device: &Device) -> Result<Option<Self>> {
        Ok(Some(match op {
            Op::Crop { start, size, step } => Self::Crop {
                start: *start,
                size: *size,
                step: *step,
            },
            Op::Pad { pads, mode } => Self::Pad {
                pads: *pads,
                mode: *mode,
            },
            Op::Resize(resize) => Self::Resize(*resize),
            Op::LayerNorm { scale, bias, epsilon } => Self::LayerNorm(Norm::new(scale, bias, *epsilon, device)?),
            Op::GroupNorm {
                groups,
                scale,
                bias,
                epsilon,
            } => Self::GroupNorm {
                groups: *groups,
                norm: Norm::new(scale, bias, *epsilon, device)?,
            },
            Op::GlobalResponseNorm { scale, bias, epsilon } => {
                Self::GlobalResponseNorm(Norm::new(scale, bias, *epsilon, device)?)
            }
            Op::ChannelConv { kernel, bias, pads } => Self::ChannelConv {
                kernel: kernel.data().to_vec(),
                bias: *bias,
                pads: *pads,
            },
            Op::Softmax { groups } => Self::Softmax(*groups),
            _ => return Ok(None),
        }))
    }

    /// Computes the operator's result.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Crop { start, size, step } => {
                let places = |axis: usize| (0..size[axis]).map(|at| start[axis] + at * step[axis]).collect();
                select(&select(x, 2, places(0))?, 3, places(1))
            }
            Self::Pad {
                pads: [top, left, bottom, right],
                mode: PadMode::Constant(value),
            } => {
                let value = f64::from(*value);
                let padded = (x - value)?
                    .pad_with_zeros(2, *top, *bottom)?
                    .pad_with_zeros(3, *left, *right)?;
                (padded + value)?.contiguous()
            }
            Self::Pad { pads, mode } => {
                let (_, _, height, width) = x.dims4()?;
                let x = select(x, 2, padded(height, [pads[0], pads[2]], *mode))?;
                select(&x, 3, padded(width, [pads[1], pads[3]], *mode))
            }
            Self::Resize(resize) => {
                let (_, _, height, width) = x.dims4()?;
                let x = interpolate(x, 2, &resize.taps(0, height))?;
                interpolate(&x, 3, &resize.taps(1, width))
            }
            Self::LayerNorm(norm) => norm.affine(&norm.normalise(x, 1)?),
            Self::GroupNorm { groups, norm } => {
                let images = x.dim(0)?;
                let grouped = x.reshape((images, *groups, x.elem_count() / images / groups))?;
                norm.affine(&norm.normalise(&grouped, 2)?.reshape(x.shape())?)
            }
            Self::GlobalResponseNorm(norm) => {
                // The square root has no derivative at zero. A constant far below the resolution of f32 gives a channel
                // of zeros a derivative.
                let lengths = (x.sqr()?.sum_keepdim((2, 3))? + 1e-30)?.sqrt()?;
                let relative = lengths.broadcast_div(&(lengths.mean_keepdim(1)? + norm.epsilon)?)?;
                x + norm.affine(&x.broadcast_mul(&relative)?)?
            }
            Self::ChannelConv { kernel, bias, pads } => {
                let padded = x.pad_with_zeros(1, pads[0], pads[1])?;
                let channels = padded.dim(1)? + 1 - kernel.len();
                let mut sum = (padded.narrow(1, 0, channels)?.zeros_like()? + f64::from(*bias))?;
                for (at, weight) in kernel.iter().enumerate() {
                    sum = (sum + (padded.narrow(1, at, channels)? * f64::from(*weight))?)?;
                }
                Ok(sum)
            }
            Self::Softmax(groups) => {
                let (images, channels) = (x.dim(0)?, x.dim(1)?);
                let grouped = x.reshape((images, *groups, channels / groups))?;
                candle_nn::ops::softmax(&grouped, 1)?.reshape(x.shape())
            }
        }
    }
}

/// Returns the rows (`dimension` 2) or columns (`dimension` 3) with the indices `places`.
fn select(x: &Tensor, dimension: usize, places: Vec<usize>) -> Result<Tensor> {
    let places: Vec<u32> = places.into_iter().map(|place| place as u32).collect();
    let count = places.len();
    x.contiguous()?
        .index_select(&Tensor::from_vec(places, count, x.device())?, dimension)
}

/// Returns the source rows or columns of a padded axis with `size` elements. Constant padding has no source.
fn padded(size: usize, [before, after]: [usize; 2], mode: PadMode) -> Vec<usize> {
    let last = size as isize - 1;
    let source = |at: isize| match mode {
        PadMode::Wrap => at.rem_euclid(size as isize),
        PadMode::Reflect if last > 0 => {
            let at = at.rem_euclid(2 * last);
            if at > last { 2 * last - at } else { at }
        }
        _ => at.clamp(0, last),
    };
    let places = -(before as isize)..(size + after) as isize;
    places.map(|at| source(at) as usize).collect()
}

/// Returns, for every output, the weighted mean of two rows (`dimension` 2) or columns (`dimension` 3).
fn interpolate(x: &Tensor, dimension: usize, taps: &[Taps]) -> Result<Tensor> {
    let low = select(x, dimension, taps.iter().map(|taps| taps.low).collect())?;
    if taps.iter().all(|taps| taps.weight == 0.0) {
        return Ok(low);
    }
    let high = select(x, dimension, taps.iter().map(|taps| taps.high).collect())?;
    let mut shape = [1; 4];
    shape[dimension] = taps.len();
    let weights: Vec<f32> = taps.iter().map(|taps| taps.weight).collect();
    let weights = Tensor::from_vec(weights, &shape, x.device())?;
    &low + (high - &low)?.broadcast_mul(&weights)?
}
