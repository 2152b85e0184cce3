//! What a task puts behind one convolution while it learns.

use candle_core::{DType, Device, Result, Tensor, Var};
use clr_adapters::SiteKind;
use clr_onnx::Activation;

use super::{
    Group,
    frozen::{FrozenSite, SiteNorm},
};
use crate::ops;

/// A parameter: trained ones are variables of the gradient, others are read as constants.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    pub(super) var: Var,
    pub(super) trained: bool,
}

impl Weight {
    pub(super) fn new(values: &[f32], shape: &[usize], device: &Device) -> Result<Self> {
        Ok(Self {
            var: Var::from_tensor(&Tensor::from_slice(values, shape, device)?)?,
            trained: true,
        })
    }

    /// The value: tracked while training, a plain constant otherwise.
    pub(super) fn tensor(&self, training: bool) -> Tensor {
        if training && self.trained {
            self.var.as_tensor().clone()
        } else {
            self.var.as_detached_tensor()
        }
    }
}

/// The state of one site.
#[derive(Clone, Debug)]
pub(super) enum Site {
    /// The backbone's own norm: `[C]`, `[C]`.
    Frozen { scale: Tensor, bias: Tensor },
    /// Kernel or scale, then the task's norm.
    Normed(Box<Normed>),
    /// Norm already folded in: `y = act(weights ∗ x + bias)`.
    Folded {
        /// `[C, 1, 3, 3]` or, for a scale, `[C]`.
        weights: Weight,
        kernel: bool,
        bias: Weight,
    },
}

/// A site with its norm unfolded.
#[derive(Clone, Debug)]
pub(super) struct Normed {
    /// `[C, 1, 3, 3]` behind a kernel site, `[C]` (a 1×1 kernel) for `clr-scale`, nothing for a norm alone.
    pub(super) multiplier: Option<Weight>,
    pub(super) gamma: Weight,
    pub(super) beta: Weight,
    /// The statistics in force: the backbone's, blended, or running averages.
    pub(super) norm: SiteNorm,
    pub(super) mean: Tensor,
    pub(super) inverse_deviation: Tensor,
}

impl Normed {
    /// `kind` with, for `unit_scale`, a 1×1 kernel of its own beside the norm's scale. Starts as the identity.
    pub(super) fn new(frozen: &FrozenSite, kind: SiteKind, unit_scale: bool, device: &Device) -> Result<Self> {
        let channels = frozen.channels;
        let multiplier = match kind {
            SiteKind::Kernel => Some(Weight::new(&identity(channels), &[channels, 1, 3, 3], device)?),
            _ if unit_scale => Some(Weight::new(&vec![1.0; channels], &[channels], device)?),
            _ => None,
        };
        let norm = frozen.norm.clone();
        Ok(Self {
            multiplier,
            gamma: Weight::new(&norm.scale, &[channels], device)?,
            beta: Weight::new(&norm.bias, &[channels], device)?,
            mean: Tensor::from_slice(&norm.mean, channels, device)?,
            inverse_deviation: Tensor::from_slice(&norm.inverse_deviation(), channels, device)?,
            norm,
        })
    }

    pub(super) fn set_statistics(&mut self, mean: Vec<f32>, variance: Vec<f32>) -> Result<()> {
        let device = self.mean.device().clone();
        (self.norm.mean, self.norm.variance) = (mean, variance);
        self.mean = Tensor::from_slice(&self.norm.mean, self.norm.mean.len(), &device)?;
        let inverse = self.norm.inverse_deviation();
        self.inverse_deviation = Tensor::from_slice(&inverse, inverse.len(), &device)?;
        Ok(())
    }

    /// `weights`, `bias` of the folded site, differentiable in every trained parameter.
    pub(super) fn folded(&self, training: bool) -> Result<(Tensor, Tensor)> {
        let scale = (self.gamma.tensor(training) * &self.inverse_deviation)?;
        let bias = (self.beta.tensor(training) - (&scale * &self.mean)?)?;
        let weights = match &self.multiplier {
            None => scale,
            Some(weight) if weight.var.rank() == 1 => (weight.tensor(training) * scale)?,
            Some(weight) => {
                let channels = scale.dim(0)?;
                weight
                    .tensor(training)
                    .broadcast_mul(&scale.reshape((channels, 1, 1, 1))?)?
            }
        };
        Ok((weights, bias))
    }
}

impl Site {
    pub(super) fn frozen(frozen: &FrozenSite, device: &Device) -> Result<Self> {
        let inverse = frozen.norm.inverse_deviation();
        let scale: Vec<f32> = frozen
            .norm
            .scale
            .iter()
            .zip(&inverse)
            .map(|(scale, inverse)| scale * inverse)
            .collect();
        let bias: Vec<f32> = (frozen.norm.bias.iter().zip(&frozen.norm.mean).zip(&scale))
            .map(|((bias, mean), scale)| bias - mean * scale)
            .collect();
        Ok(Self::Frozen {
            scale: Tensor::new(scale, device)?,
            bias: Tensor::new(bias, device)?,
        })
    }

    /// `[N, C, H, W]` behind the bias-free convolution, with fixed statistics.
    pub(super) fn forward(&self, x: &Tensor, activation: Option<Activation>, training: bool) -> Result<Tensor> {
        match self {
            Self::Frozen { scale, bias } => ops::scale_shift(x, scale, bias, activation),
            Self::Normed(site) => {
                let (weights, bias) = site.folded(training)?;
                if weights.rank() == 4 {
                    ops::clr_site(x, &weights, &bias, activation)
                } else {
                    ops::scale_shift(x, &weights, &bias, activation)
                }
            }
            Self::Folded { weights, kernel, bias } => {
                let (weights, bias) = (weights.tensor(training), bias.tensor(training));
                if *kernel {
                    ops::clr_site(x, &weights, &bias, activation)
                } else {
                    ops::scale_shift(x, &weights, &bias, activation)
                }
            }
        }
    }

    /// The same with the batch's own statistics; `None` where the site has no norm to estimate.
    pub(super) fn forward_batch(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
    ) -> Result<Option<(Tensor, ops::BatchStats)>> {
        let Self::Normed(site) = self else { return Ok(None) };
        if !site.norm.present {
            return Ok(None);
        }
        let (gamma, beta, epsilon) = (site.gamma.tensor(true), site.beta.tensor(true), site.norm.epsilon);
        let reprogrammed = match &site.multiplier {
            None => x.clone(),
            Some(weight) if weight.var.rank() == 1 => {
                let zero = Tensor::zeros(weight.var.dim(0)?, DType::F32, x.device())?;
                ops::scale_shift(x, &weight.tensor(true), &zero, None)?
            }
            Some(weight) => {
                let kernel = weight.tensor(true);
                return ops::clr_batch_norm(x, &kernel, &gamma, &beta, epsilon, activation).map(Some);
            }
        };
        ops::batch_norm(&reprogrammed, &gamma, &beta, epsilon, activation).map(Some)
    }

    /// The weights with their part of the name and their group, in the order of snapshots.
    pub(super) fn parts(&self) -> Vec<(&'static str, Group, &Weight)> {
        match self {
            Self::Frozen { .. } => Vec::new(),
            Self::Normed(site) => {
                let Normed {
                    multiplier,
                    gamma,
                    beta,
                    ..
                } = &**site;
                let multiplier = multiplier.as_ref().map(|weight| {
                    let part = if weight.var.rank() == 4 { "kernel" } else { "scale" };
                    (part, Group::Kernel, weight)
                });
                let norm = [("norm.scale", Group::Norm, gamma), ("norm.bias", Group::Norm, beta)];
                multiplier.into_iter().chain(norm).collect()
            }
            Self::Folded { weights, kernel, bias } => {
                let (part, group) = if *kernel {
                    ("kernel", Group::Kernel)
                } else {
                    ("scale", Group::Norm)
                };
                vec![(part, group, weights), ("bias", Group::Norm, bias)]
            }
        }
    }

    /// The weights with their part of the name and their group, in the order of snapshots.
    pub(super) fn parts_mut(&mut self) -> Vec<(&'static str, Group, &mut Weight)> {
        match self {
            Self::Frozen { .. } => Vec::new(),
            Self::Normed(site) => {
                let Normed {
                    multiplier,
                    gamma,
                    beta,
                    ..
                } = &mut **site;
                let multiplier = multiplier.as_mut().map(|weight| {
                    let part = if weight.var.rank() == 4 { "kernel" } else { "scale" };
                    (part, Group::Kernel, weight)
                });
                let norm = [("norm.scale", Group::Norm, gamma), ("norm.bias", Group::Norm, beta)];
                multiplier.into_iter().chain(norm).collect()
            }
            Self::Folded { weights, kernel, bias } => {
                let (part, group) = if *kernel {
                    ("kernel", Group::Kernel)
                } else {
                    ("scale", Group::Norm)
                };
                vec![(part, group, weights), ("bias", Group::Norm, bias)]
            }
        }
    }
}

/// Identity kernels, `[channels, 3, 3]`.
pub(super) fn identity(channels: usize) -> Vec<f32> {
    [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(channels)
}
