//! Sites and head of a task as candle tensors.

use candle_core::{DType, Device, Result, Tensor, Var};
use clr_learning::{ChannelStatistics, Multiplier, Network, NormedSite, Site, Weight};
use clr_onnx::Activation;

use super::frozen::FrozenSite;
use crate::ops;

/// Sites and head of a [`Network`].
pub(super) struct TaskTensors {
    pub(super) sites: Vec<SiteTensors>,
    /// Weight of the head, `[K, F]`.
    pub(super) head_weight: Tensor,
    /// Bias of the head, `[K]`.
    pub(super) head_bias: Tensor,
    /// Trained parameters, in the order of [`Network::parameters`].
    pub(super) variables: Vec<Var>,
}

/// One site.
pub(super) enum SiteTensors {
    /// The backbone's own norm.
    Frozen,
    /// A multiplier, then the task's norm.
    Normed {
        /// The multiplier: `[C, 1, 3, 3]` for a kernel, `[C]` for a scale.
        multiplier: Option<Tensor>,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        inverse_deviation: Tensor,
        epsilon: f32,
        /// Whether the backbone has a norm at this site.
        present: bool,
    },
    /// Differences from the backbone's own norm.
    Difference {
        weights: DifferenceTensors,
        bias: DifferenceTensors,
    },
    /// `weights ∗ x + bias`. The weights are `[C, 1, 3, 3]` for a kernel, `[C]` for a scale.
    Folded { weights: Tensor, bias: Tensor },
}

/// Differences, and what turns them into absolute values. All have one shape.
#[derive(Clone)]
pub(super) struct DifferenceTensors {
    differences: Tensor,
    /// Rounded differences minus the differences, without a gradient.
    rounding: Tensor,
    own: Tensor,
    unit: Tensor,
}

/// Returns the rounded values minus the values.
fn rounding(weight: &Weight) -> Vec<f32> {
    let rounded = weight.rounded();
    rounded.iter().zip(&weight.values).map(|(a, b)| a - b).collect()
}

impl DifferenceTensors {
    /// `absolute` returns the values of differences.
    fn new(weight: &Weight, differences: Tensor, absolute: impl Fn(&[f32]) -> Vec<f32>) -> Result<Self> {
        let (shape, device) = (differences.shape().clone(), differences.device().clone());
        let constant = |values: Vec<f32>| Tensor::from_vec(values, shape.clone(), &device);
        let own = absolute(&vec![0.0; weight.values.len()]);
        let above = absolute(&vec![1.0; weight.values.len()]);
        Ok(Self {
            rounding: constant(rounding(weight))?,
            unit: constant(above.iter().zip(&own).map(|(a, b)| a - b).collect())?,
            own: constant(own)?,
            differences,
        })
    }

    fn absolute(&self) -> Result<Tensor> {
        ((&self.differences + &self.rounding)? * &self.unit)? + &self.own
    }
}

impl TaskTensors {
    /// Copies a network's values. With `training`, the trained parameters become variables.
    pub(super) fn new(network: &Network, device: &Device, training: bool) -> Result<Self> {
        let mut variables = Vec::new();
        let mut tensor = |weight: &Weight, shape: &[usize]| -> Result<Tensor> {
            let tensor = Tensor::from_slice(&weight.values, shape, device)?;
            if !(training && weight.trained) {
                return Ok(tensor);
            }
            let variable = Var::from_tensor(&tensor)?;
            variables.push(variable.clone());
            Ok(variable.as_tensor().clone())
        };
        let (classes, features) = (network.classes(), network.feature_count());
        let [weight, bias] = network.head_weights();
        let rounding = Tensor::from_vec(rounding(weight), (classes, features), device)?;
        let head_weight = (tensor(weight, &[classes, features])? + rounding)?;
        let head_bias = tensor(bias, &[classes])?;
        let sites = network
            .frozen_sites()
            .iter()
            .zip(network.sites())
            .map(|(frozen, site)| {
                let channels = frozen.channels;
                let mut multiplier = |multiplier: &Multiplier| {
                    if multiplier.kernel {
                        tensor(&multiplier.weight, &[channels, 1, 3, 3])
                    } else {
                        tensor(&multiplier.weight, &[channels])
                    }
                };
                Ok(match site {
                    Site::Frozen => SiteTensors::Frozen,
                    Site::Difference(site) => SiteTensors::Difference {
                        weights: DifferenceTensors::new(&site.weights.weight, multiplier(&site.weights)?, |values| {
                            site.norm.weights(values)
                        })?,
                        bias: DifferenceTensors::new(&site.bias, tensor(&site.bias, &[channels])?, |values| {
                            site.norm.biases(values)
                        })?,
                    },
                    Site::Folded { weights, bias } => SiteTensors::Folded {
                        weights: multiplier(weights)?,
                        bias: tensor(bias, &[channels])?,
                    },
                    Site::Normed(site) => SiteTensors::Normed {
                        multiplier: site.multiplier.as_ref().map(multiplier).transpose()?,
                        gamma: tensor(&site.gamma, &[channels])?,
                        beta: tensor(&site.beta, &[channels])?,
                        mean: Tensor::from_slice(&site.norm.mean, channels, device)?,
                        inverse_deviation: Tensor::from_slice(site.inverse_deviation(), channels, device)?,
                        epsilon: site.norm.epsilon,
                        present: site.norm.present,
                    },
                })
            });
        Ok(Self {
            sites: sites.collect::<Result<_>>()?,
            head_weight,
            head_bias,
            variables,
        })
    }
}

impl SiteTensors {
    /// Returns the tensors with the statistics of `site` in place of the current ones.
    pub(super) fn with_statistics(&self, site: &NormedSite) -> Result<Self> {
        match self {
            Self::Normed {
                multiplier,
                gamma,
                beta,
                epsilon,
                present,
                ..
            } => {
                let channels = site.norm.mean.len();
                Ok(Self::Normed {
                    multiplier: multiplier.clone(),
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    mean: Tensor::from_slice(&site.norm.mean, channels, gamma.device())?,
                    inverse_deviation: Tensor::from_slice(site.inverse_deviation(), channels, gamma.device())?,
                    epsilon: *epsilon,
                    present: *present,
                })
            }
            Self::Frozen => Ok(Self::Frozen),
            Self::Difference { weights, bias } => Ok(Self::Difference {
                weights: weights.clone(),
                bias: bias.clone(),
            }),
            Self::Folded { weights, bias } => Ok(Self::Folded {
                weights: weights.clone(),
                bias: bias.clone(),
            }),
        }
    }

    /// Folded weights and bias, differentiable.
    fn folded(&self, frozen: &FrozenSite) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Frozen => Ok((frozen.scale.clone(), frozen.bias.clone())),
            Self::Folded { weights, bias } => Ok((weights.clone(), bias.clone())),
            Self::Difference { weights, bias } => Ok((weights.absolute()?, bias.absolute()?)),
            Self::Normed {
                multiplier,
                gamma,
                beta,
                mean,
                inverse_deviation,
                ..
            } => {
                let scale = (gamma * inverse_deviation)?;
                let bias = (beta - (&scale * mean)?)?;
                let weights = match multiplier {
                    None => scale,
                    Some(weight) if weight.rank() == 1 => (weight * scale)?,
                    Some(weight) => {
                        let channels = scale.dim(0)?;
                        weight.broadcast_mul(&scale.reshape((channels, 1, 1, 1))?)?
                    }
                };
                Ok((weights, bias))
            }
        }
    }

    /// Returns the site's output `[N, C, H, W]` for the output of the bias-free convolution, with the current
    /// statistics.
    pub(super) fn forward(&self, x: &Tensor, frozen: &FrozenSite) -> Result<Tensor> {
        let (weights, bias) = self.folded(frozen)?;
        if weights.rank() == 4 {
            ops::clr_site(x, &weights, &bias, frozen.activation())
        } else {
            ops::scale_shift(x, &weights, &bias, frozen.activation())
        }
    }

    /// Does the same as [`Self::forward`] with the batch's own statistics. Returns `None` if the site has no norm to
    /// estimate.
    pub(super) fn forward_batch(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
    ) -> Result<Option<(Tensor, ChannelStatistics)>> {
        let Self::Normed {
            multiplier,
            gamma,
            beta,
            epsilon,
            present: true,
            ..
        } = self
        else {
            return Ok(None);
        };
        let reprogrammed = match multiplier {
            None => x.clone(),
            Some(weight) if weight.rank() == 1 => {
                let zero = Tensor::zeros(weight.dim(0)?, DType::F32, x.device())?;
                ops::scale_shift(x, weight, &zero, None)?
            }
            Some(kernel) => return ops::clr_batch_norm(x, kernel, gamma, beta, *epsilon, activation).map(Some),
        };
        ops::batch_norm(&reprogrammed, gamma, beta, *epsilon, activation).map(Some)
    }
}
