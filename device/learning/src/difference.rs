//! A site as differences from the backbone's own norm, as adapter files of format version 3 store it.
//!
//! With the backbone's own values `o` and units `u` of a channel ([`FoldedNorm`]), a difference `d` stands for the value
//! `w = o + d · u`, so `dL/dd = u · dL/dw`. If the weights have a step, the forward pass uses the nearest multiple of it,
//! and the gradient passes the rounding unchanged (straight-through estimator, Bengio et al. 2013).

use std::sync::Arc;

use clr_adapters::{FoldedNorm, SiteSteps, SiteWeights};

use crate::{Multiplier, Weight, folded_site::FoldedSite};

/// A site whose parameters are differences from the backbone's own norm.
#[derive(Clone, Debug)]
pub struct DifferenceSite {
    /// The backbone's own norm.
    pub norm: Arc<FoldedNorm>,
    /// Differences of the kernel `[C, 3, 3]` or scale `[C]`.
    pub weights: Multiplier,
    /// Differences of the bias, `[C]`.
    pub bias: Weight,
}

impl DifferenceSite {
    /// Creates a site with these differences or absolute values, which are trained.
    pub(crate) fn new(norm: Arc<FoldedNorm>, site: &clr_adapters::Site) -> Self {
        let (values, kernel) = match &site.weights {
            SiteWeights::Kernel(values) => (values, true),
            SiteWeights::Scale(values) => (values, false),
        };
        let (weights, bias) = if site.steps.is_some() {
            (values.clone(), site.bias.clone())
        } else {
            (norm.weight_differences(values), norm.bias_differences(&site.bias))
        };
        let mut own = Self {
            norm,
            weights: Multiplier {
                weight: Weight::new(weights),
                kernel,
            },
            bias: Weight::new(bias),
        };
        own.set_steps(site.steps);
        own
    }

    /// Sets the steps to which the forward pass rounds; `None` to use the differences as they are.
    pub fn set_steps(&mut self, steps: Option<SiteSteps>) {
        self.weights.weight.step = steps.map(|steps| steps.weights);
        self.bias.step = steps.map(|steps| steps.bias);
    }

    /// Returns the steps, if the forward pass rounds.
    pub fn steps(&self) -> Option<SiteSteps> {
        let (weights, bias) = self.weights.weight.step.zip(self.bias.step)?;
        Some(SiteSteps { weights, bias })
    }

    pub(crate) fn folded(&self) -> FoldedSite {
        FoldedSite {
            weights: self.norm.weights(&self.weights.weight.rounded()),
            bias: self.norm.biases(&self.bias.rounded()),
            kernel: self.weights.kernel,
            trained: self.weights.weight.trained || self.bias.trained,
        }
    }

    /// Returns the gradients of the differences from those of the folded weights and bias.
    pub(crate) fn unfold(&self, mut d_weights: Vec<f32>, mut d_bias: Vec<f32>) -> Vec<Vec<f32>> {
        let taps = (d_weights.len() / self.norm.channels().max(1)).max(1);
        for (index, gradient) in d_weights.iter_mut().enumerate() {
            *gradient *= self.norm.units(index / taps)[0] as f32;
        }
        for (channel, gradient) in d_bias.iter_mut().enumerate() {
            *gradient *= self.norm.units(channel)[1] as f32;
        }
        vec![d_weights, d_bias]
    }

    /// Returns the site for an adapter: rounded differences, or absolute values if there are no steps.
    pub(crate) fn to_adapter(&self, name: String) -> clr_adapters::Site {
        let steps = self.steps();
        let (weights, bias) = if steps.is_some() {
            (
                self.weights.weight.rounded().into_owned(),
                self.bias.rounded().into_owned(),
            )
        } else {
            let folded = self.folded();
            (folded.weights, folded.bias)
        };
        clr_adapters::Site {
            name: Some(name),
            weights: if self.weights.kernel {
                SiteWeights::Kernel(weights)
            } else {
                SiteWeights::Scale(weights)
            },
            bias,
            steps,
        }
    }
}
