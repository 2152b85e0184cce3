//! Convolution with frozen weights.

use std::{fmt, sync::Arc};

use candle_core::{Device, Result, Tensor};
use clr_onnx::{Conv, Padding};

#[cfg(feature = "cuda")]
use super::cuda::operators as cuda;
use super::{arguments::map_of, plain};
use crate::sizes::{Map, Window};

/// A convolution (ONNX `Conv`, any kernel, stride, dilation, group and padding) with fixed weights.
///
/// The weights are packed on first use, once for every direction and padding, and shared by all clones. The bias in the
/// file is not applied, because it belongs to the site after the convolution.
#[derive(Clone)]
pub struct FrozenConv(pub(super) Arc<Frozen>);

pub(super) struct Frozen {
    pub(super) conv: Conv,
    /// The weights, `[O, I / group, kh, kw]`.
    pub(super) weight: Tensor,
}

impl fmt::Debug for FrozenConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenConv{:?}", self.0.conv.weight.shape())
    }
}

impl FrozenConv {
    /// Creates the convolution from the weights `[O, I / group, kh, kw]`, stride, dilation, group and padding of
    /// `conv`.
    ///
    /// # Errors
    /// Returns candle's error if the sizes are inconsistent, or if the device is neither the CPU nor, with the feature
    /// `cuda`, a CUDA device.
    pub fn new(conv: &Conv, device: &Device) -> Result<Self> {
        let shape = conv.weight.shape();
        let fits = shape.len() == 4
            && conv.group > 0
            && shape.iter().all(|&size| size > 0)
            && shape[0].is_multiple_of(conv.group)
            && conv.stride.iter().chain(&conv.dilation).all(|&step| step > 0);
        if !fits {
            candle_core::bail!(
                "convolution: expected a weight [O, I / group, kh, kw], got {shape:?} with group {}, stride {:?}, dilation {:?}",
                conv.group,
                conv.stride,
                conv.dilation
            );
        }
        let known = device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda());
        if !known {
            candle_core::bail!(
                "convolution: frozen convolutions run on the cpu or, with the feature `cuda`, on a cuda device, got {:?}",
                device.location()
            );
        }
        let conv = Conv {
            bias: None,
            ..conv.clone()
        };
        Ok(Self(Arc::new(Frozen {
            weight: Tensor::from_slice(&conv.weight.values(), conv.weight.shape(), device)?,
            conv,
        })))
    }

    /// Convolves `[N, I, H, W]` to `[N, O, H', W']`, without the bias. SAME padding is resolved from the input's size.
    ///
    /// Gradient: input only.
    ///
    /// # Errors
    /// Returns candle's error if the channels differ, or if the kernel does not fit the padded input.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (window, to) = self.0.sizes(map_of("convolution", x)?)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return x.contiguous()?.apply_op1(cuda::Convolve(self.clone()));
        }
        plain::convolution(x, &self.0.weight, window, [to.h, to.w], self.0.conv.group)
    }
}

/// Stride, dilation, groups and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvOptions {
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Number of groups of channels.
    pub groups: usize,
    /// Zero padding of the input.
    pub padding: Padding,
}

impl From<&Conv> for ConvOptions {
    fn from(conv: &Conv) -> Self {
        Self {
            stride: conv.stride,
            dilation: conv.dilation,
            groups: conv.group,
            padding: conv.padding,
        }
    }
}

/// Convolves `x` `[N, I, H, W]` with `weight` `[O, I / groups, kh, kw]` in candle's own operations: a sum over the
/// positions of the kernel. Gradients: both.
///
/// # Errors
/// Returns candle's error if the channels differ, or if the kernel does not fit the padded input.
pub fn conv(x: &Tensor, weight: &Tensor, options: ConvOptions) -> Result<Tensor> {
    let (window, to) = sizes(weight.dims4()?, options, map_of("convolution", x)?)?;
    plain::convolution(x, weight, window, [to.h, to.w], options.groups)
}

impl Frozen {
    /// Returns the window for an input, and the output's sizes.
    pub(super) fn sizes(&self, from: Map) -> Result<(Window, Map)> {
        sizes(self.weight.dims4()?, ConvOptions::from(&self.conv), from)
    }
}

fn sizes(
    (outputs, inputs, kh, kw): (usize, usize, usize, usize),
    options: ConvOptions,
    from: Map,
) -> Result<(Window, Map)> {
    let ConvOptions {
        stride,
        dilation,
        groups,
        padding,
    } = options;
    let channels = inputs * groups;
    if from.c != channels {
        candle_core::bail!("convolution: expected {channels} input channels, got {}", from.c);
    }
    let (size, kernel) = ([from.h, from.w], [kh, kw]);
    let pads = padding.resolve(size, kernel, stride, dilation);
    let window = Window {
        kernel,
        stride,
        dilation,
        pads,
    };
    match window.output(size) {
        Some([h, w]) => Ok((
            window,
            Map {
                n: from.n,
                c: outputs,
                h,
                w,
            },
        )),
        None => {
            candle_core::bail!("convolution: kernel {kernel:?} does not fit an input of {size:?} padded by {pads:?}")
        }
    }
}
