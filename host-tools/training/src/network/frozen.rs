//! A convolution of the backbone, and the norm that the backbone itself puts behind it.

use clr_onnx::{Activation, Conv, Op};

use crate::ops::FrozenConv;

/// A convolution with what the backbone itself puts behind it.
pub(crate) struct FrozenSite {
    pub(crate) name: String,
    pub(crate) channels: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) conv: FrozenConv,
    pub(crate) activation: Option<Activation>,
    /// The backbone's norm, with the convolution's own bias taken into the mean.
    pub(crate) norm: SiteNorm,
}

/// The norm behind a bias-free convolution: `(x − mean) / √(variance + epsilon) · scale + bias`.
#[derive(Clone, Debug)]
pub(crate) struct SiteNorm {
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    pub(crate) epsilon: f32,
    /// Whether the backbone has a norm here; without one, mean 0 and variance 1 stand for ever.
    pub(crate) present: bool,
}

impl SiteNorm {
    pub(crate) fn new(conv: &Conv, norm: Option<&Op>) -> Self {
        let channels = conv.channels();
        let own = conv
            .bias
            .as_ref()
            .map_or_else(|| vec![0.0; channels], |bias| bias.data().to_vec());
        match norm {
            Some(Op::BatchNorm(norm)) => Self {
                scale: norm.scale.data().to_vec(),
                bias: norm.bias.data().to_vec(),
                mean: norm
                    .mean
                    .data()
                    .iter()
                    .zip(&own)
                    .map(|(mean, own)| mean - own)
                    .collect(),
                variance: norm.variance.data().to_vec(),
                epsilon: norm.epsilon,
                present: true,
            },
            _ => Self {
                scale: vec![1.0; channels],
                bias: own,
                mean: vec![0.0; channels],
                variance: vec![1.0; channels],
                epsilon: 0.0,
                present: false,
            },
        }
    }

    /// `1 / √(variance + epsilon)`, `[C]`.
    pub(crate) fn inverse_deviation(&self) -> Vec<f32> {
        let epsilon = f64::from(self.epsilon);
        self.variance
            .iter()
            .map(|&variance| (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32)
            .collect()
    }
}
