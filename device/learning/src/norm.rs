//! Norm that follows a convolution in the backbone.

use clr_onnx::{Conv, Op};

/// `(x − mean) / √(variance + epsilon) · scale + bias` after a convolution without a bias. All `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteNorm {
    /// γ.
    pub scale: Vec<f32>,
    /// β.
    pub bias: Vec<f32>,
    /// μ, minus the convolution's own bias.
    pub mean: Vec<f32>,
    /// σ².
    pub variance: Vec<f32>,
    /// ε.
    pub epsilon: f32,
    /// Whether the backbone has a norm at this site. If not, mean 0 and variance 1 never change.
    pub present: bool,
}

impl SiteNorm {
    /// Creates the norm after `conv`. Without a norm in the backbone, it is the identity with the convolution's bias.
    pub fn new(conv: &Conv, norm: Option<&Op>) -> Self {
        let channels = conv.channels();
        let conv_bias = conv
            .bias
            .as_ref()
            .map_or_else(|| vec![0.0; channels], |bias| bias.data().to_vec());
        match norm {
            Some(Op::BatchNorm(norm)) => Self {
                scale: norm.scale.data().to_vec(),
                bias: norm.bias.data().to_vec(),
                mean: (norm.mean.data().iter().zip(&conv_bias))
                    .map(|(mean, bias)| mean - bias)
                    .collect(),
                variance: norm.variance.data().to_vec(),
                epsilon: norm.epsilon,
                present: true,
            },
            _ => Self {
                scale: vec![1.0; channels],
                bias: conv_bias,
                mean: vec![0.0; channels],
                variance: vec![1.0; channels],
                epsilon: 0.0,
                present: false,
            },
        }
    }

    /// Returns `1 / √(variance + epsilon)`, `[C]`.
    pub fn inverse_deviation(&self) -> Vec<f32> {
        let epsilon = f64::from(self.epsilon);
        self.variance
            .iter()
            .map(|&variance| (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32)
            .collect()
    }
}
