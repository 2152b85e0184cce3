//! A convolution of the backbone with the backbone's own norm.

use candle_core::{Device, Result, Tensor};
use clr_learning::SiteNorm;
use clr_onnx::{Activation, Conv, Op};

use crate::ops::FrozenConv;

/// A convolution, and what follows it in the backbone.
pub(crate) struct FrozenSite {
    pub(crate) conv: FrozenConv,
    pub(crate) activation: Option<Activation>,
    /// The folded norm, `[C]`.
    pub(crate) scale: Tensor,
    /// `[C]`.
    pub(crate) bias: Tensor,
}

impl FrozenSite {
    pub(crate) fn new(conv: &Conv, norm: Option<&Op>, activation: Option<Activation>, device: &Device) -> Result<Self> {
        let norm = SiteNorm::new(conv, norm);
        let scale: Vec<f32> = (norm.scale.iter().zip(norm.inverse_deviation()))
            .map(|(scale, inverse)| scale * inverse)
            .collect();
        let bias: Vec<f32> = (norm.bias.iter().zip(&norm.mean).zip(&scale))
            .map(|((bias, mean), scale)| bias - mean * scale)
            .collect();
        Ok(Self {
            conv: FrozenConv::new(conv, device)?,
            activation,
            scale: Tensor::new(scale, device)?,
            bias: Tensor::new(bias, device)?,
        })
    }
}
