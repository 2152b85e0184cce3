//! Folding of a task's norm into its sites: the same function with fewer parameters, computed in f64.
//!
//! `s = γ / √(σ² + ε)`, `K' = K · s`, `b' = β − μ · s` (CLR paper, section 3; `docs/reference/adapter-format.md`,
//! "Folding"). A convolution's bias `c`, which is added *before* the norm, also moves after the CLR layer:
//! `b' = β + (c − μ) · s`. The reprogramming layer is therefore applied to the bias-free feature map. A bias that is
//! added before the zero padding would give another function at the border.

use alloc::{vec, vec::Vec};

use crate::SiteWeights;

/// An inference-mode batch normalisation, `(x − mean) / √(variance + epsilon) · scale + bias`. All slices `[C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm<'a> {
    /// γ.
    pub scale: &'a [f32],
    /// β.
    pub bias: &'a [f32],
    /// μ, the running mean.
    pub mean: &'a [f32],
    /// σ², the running variance.
    pub variance: &'a [f32],
    /// ε.
    pub epsilon: f32,
}

/// Parameters after one convolution, after folding.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// `[C, 3, 3]` or `[C]`.
    pub weights: SiteWeights,
    /// `[C]`.
    pub bias: Vec<f32>,
}

/// Error of folding.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A vector has the wrong length.
    #[error("{what}: {got} values, expected {expected}")]
    Length {
        /// The name of the vector.
        what: &'static str,
        /// The length that the site's channels require.
        expected: usize,
        /// The length of the vector.
        got: usize,
    },
    /// A channel's variance plus epsilon is not above zero.
    #[error("channel {channel}: variance {variance} + epsilon {epsilon} is not above 0")]
    Variance {
        /// The channel.
        channel: usize,
        /// σ².
        variance: f32,
        /// ε.
        epsilon: f32,
    },
    /// A folded value is not finite.
    #[error("channel {channel}: the folded {what} is not finite")]
    NotFinite {
        /// `weight` or `bias`.
        what: &'static str,
        /// The channel.
        channel: usize,
    },
}

/// A norm combined with the adjacent biases: one multiplication and one addition per channel.
struct Affine {
    scale: Vec<f64>,
    bias: Vec<f64>,
}

impl Affine {
    fn new(channels: usize, norm: Option<&Norm<'_>>, conv_bias: Option<&[f32]>) -> Result<Self, FoldError> {
        let mut affine = Self {
            scale: vec![1.0; channels],
            bias: vec![0.0; channels],
        };
        if let Some(norm) = norm {
            length("norm scale", channels, norm.scale)?;
            length("norm bias", channels, norm.bias)?;
            length("norm mean", channels, norm.mean)?;
            length("norm variance", channels, norm.variance)?;
            for channel in 0..channels {
                let variance = f64::from(norm.variance[channel]) + f64::from(norm.epsilon);
                if variance.is_nan() || variance <= 0.0 {
                    let (variance, epsilon) = (norm.variance[channel], norm.epsilon);
                    return Err(FoldError::Variance {
                        channel,
                        variance,
                        epsilon,
                    });
                }
                let scale = f64::from(norm.scale[channel]) / libm::sqrt(variance);
                affine.scale[channel] = scale;
                affine.bias[channel] = f64::from(norm.bias[channel]) - f64::from(norm.mean[channel]) * scale;
            }
        }
        if let Some(conv_bias) = conv_bias {
            length("convolution bias", channels, conv_bias)?;
            for ((bias, scale), &own) in affine.bias.iter_mut().zip(&affine.scale).zip(conv_bias) {
                *bias += f64::from(own) * scale;
            }
        }
        Ok(affine)
    }

    fn fold(&self, weights: &[f32], taps: usize) -> Result<(Vec<f32>, Vec<f32>), FoldError> {
        let scaled = |(index, &weight): (usize, &f32)| (f64::from(weight) * self.scale[index / taps]) as f32;
        let weights: Vec<f32> = weights.iter().enumerate().map(scaled).collect();
        let bias: Vec<f32> = self.bias.iter().map(|&bias| bias as f32).collect();
        for (what, values, taps) in [("weight", &weights, taps), ("bias", &bias, 1)] {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(FoldError::NotFinite {
                    what,
                    channel: index / taps,
                });
            }
        }
        Ok((weights, bias))
    }
}

fn length(what: &'static str, expected: usize, values: &[f32]) -> Result<(), FoldError> {
    let got = values.len();
    if got == expected {
        Ok(())
    } else {
        Err(FoldError::Length { what, expected, got })
    }
}

/// Folds the layers after a reprogrammed convolution: 3×3 `kernel` `[C, 3, 3]`, then `norm`.
///
/// `conv_bias` `[C]` is the convolution's bias. The caller must then remove it from the convolution itself.
///
/// # Errors
/// [`FoldError`] if lengths do not agree, if a variance plus epsilon is not above zero, or if a result is not finite.
pub fn fold_kernel(kernel: &[f32], norm: Option<&Norm<'_>>, conv_bias: Option<&[f32]>) -> Result<Folded, FoldError> {
    let channels = kernel.len() / 9;
    length("kernel", 9 * channels, kernel)?;
    let (weights, bias) = Affine::new(channels, norm, conv_bias)?.fold(kernel, 9)?;
    Ok(Folded {
        weights: SiteWeights::Kernel(weights),
        bias,
    })
}

/// Folds the layers after a convolution without a 3×3 kernel: `scale` `[C]` (1×1 depthwise kernel), then `norm`.
///
/// An identity scale is a slice of ones; `conv_bias` is as for [`fold_kernel`].
///
/// # Errors
/// [`FoldError`] in the same cases as [`fold_kernel`].
pub fn fold_scale(scale: &[f32], norm: Option<&Norm<'_>>, conv_bias: Option<&[f32]>) -> Result<Folded, FoldError> {
    let (weights, bias) = Affine::new(scale.len(), norm, conv_bias)?.fold(scale, 1)?;
    Ok(Folded {
        weights: SiteWeights::Scale(weights),
        bias,
    })
}
