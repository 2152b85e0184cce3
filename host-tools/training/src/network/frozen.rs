//! A convolution of the backbone with the backbone's own epilogue.

use candle_core::{Device, Result, Tensor};
use clr_onnx::{Activation, ConvStep, Quantisation};

use crate::ops::FrozenConv;

/// A convolution with the backbone's own epilogue.
pub(crate) struct FrozenSite {
    pub(crate) conv: FrozenConv,
    /// Activation after the site or, with a shortcut, after the sum.
    activation: Option<Activation>,
    shortcut: bool,
    /// The rounding of the site's result before the shortcut is added.
    pub(crate) inner: Option<Quantisation>,
    /// Scale of the folded norm, `[C]`.
    pub(crate) scale: Tensor,
    /// Bias of the folded norm, `[C]`.
    pub(crate) bias: Tensor,
}

impl FrozenSite {
    pub(crate) fn new(step: &ConvStep, device: &Device) -> Result<Self> {
        Ok(Self {
            conv: FrozenConv::new(&step.conv, device)?,
            activation: step.activation,
            shortcut: step.shortcut,
            inner: step.inner,
            scale: Tensor::new(&step.scale[..], device)?,
            bias: Tensor::new(&step.bias[..], device)?,
        })
    }

    /// Returns the activation of the site itself.
    pub(crate) fn activation(&self) -> Option<Activation> {
        self.activation.filter(|_| !self.shortcut)
    }

    /// Returns the activation of the sum with the shortcut.
    pub(crate) fn sum_activation(&self) -> Option<Activation> {
        self.activation.filter(|_| self.shortcut)
    }
}
