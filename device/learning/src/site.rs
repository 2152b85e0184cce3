//! Site of a task after a convolution: parameters, folding, and the gradient through the folding.
//!
//! With `s = γ / √(σ² + ε)`, a site folds to `w' = w · s` and `b' = β − s · μ` (CLR, ICCV 2023, section 3). The
//! gradients of `w'` and `b'` give: `dw = dw' · s`, `ds = Σ dw' · w − db' · μ`, `dγ = ds / √(σ² + ε)`, `dβ = db'`.

use clr_adapters::SiteKind;

use crate::{DifferenceSite, Group, Multiplier, SiteNorm, Weight, folded_site::FoldedSite, parameter::Weights};

/// A site of the frozen backbone.
#[derive(Clone, Debug)]
pub struct FrozenSite {
    /// The convolution's name.
    pub name: String,
    /// Output channels of the convolution.
    pub channels: usize,
    /// Rows and columns of its kernel.
    pub kernel: [usize; 2],
    /// The backbone's norm.
    pub norm: SiteNorm,
}

/// The state of a site.
#[derive(Clone, Debug)]
pub enum Site {
    /// The backbone's own norm.
    Frozen,
    /// A kernel or scale, then the task's norm.
    Normed(Box<NormedSite>),
    /// Differences from the backbone's own norm.
    Difference(Box<DifferenceSite>),
    /// A site with the norm folded in: `weights ∗ x + bias`.
    Folded {
        /// `[C, 3, 3]`, or `[C]`.
        weights: Multiplier,
        /// `[C]`.
        bias: Weight,
    },
}

/// A site with its norm unfolded.
#[derive(Clone, Debug)]
pub struct NormedSite {
    /// A kernel at a kernel site, or a scale (1×1 kernel) for `clr-scale`; `None` if the site only has a norm.
    pub multiplier: Option<Multiplier>,
    /// γ, `[C]`.
    pub gamma: Weight,
    /// β, `[C]`.
    pub beta: Weight,
    /// The current statistics (the backbone's, blended ones, or running averages), and the initial γ and β.
    pub norm: SiteNorm,
    inverse_deviation: Vec<f32>,
}

impl NormedSite {
    /// Creates a site of `kind` at the identity. With `unit_scale`, it has a scale in addition to the norm's.
    pub(crate) fn new(frozen: &FrozenSite, kind: SiteKind, unit_scale: bool) -> Self {
        let channels = frozen.channels;
        let multiplier = match kind {
            SiteKind::Kernel => Some((identity(channels), true)),
            _ if unit_scale => Some((vec![1.0; channels], false)),
            _ => None,
        };
        let norm = frozen.norm.clone();
        Self {
            multiplier: multiplier.map(|(values, kernel)| Multiplier {
                weight: Weight::new(values),
                kernel,
            }),
            gamma: Weight::new(norm.scale.clone()),
            beta: Weight::new(norm.bias.clone()),
            inverse_deviation: norm.inverse_deviation(),
            norm,
        }
    }

    /// Returns `1 / √(variance + epsilon)` of the current statistics, `[C]`.
    pub fn inverse_deviation(&self) -> &[f32] {
        &self.inverse_deviation
    }

    /// Replaces the statistics.
    pub fn set_statistics(&mut self, mean: Vec<f32>, variance: Vec<f32>) {
        (self.norm.mean, self.norm.variance) = (mean, variance);
        self.inverse_deviation = self.norm.inverse_deviation();
    }

    fn scale(&self) -> Vec<f32> {
        let channels = self.gamma.values.iter().zip(&self.inverse_deviation);
        channels.map(|(gamma, inverse)| gamma * inverse).collect()
    }

    fn trained(&self) -> bool {
        let multiplier = self.multiplier.as_ref();
        self.gamma.trained || self.beta.trained || multiplier.is_some_and(|multiplier| multiplier.weight.trained)
    }

    fn folded(&self) -> FoldedSite {
        let scale = self.scale();
        let bias = (self.beta.values.iter().zip(&scale).zip(&self.norm.mean))
            .map(|((beta, scale), mean)| beta - scale * mean)
            .collect();
        let (weights, kernel) = match &self.multiplier {
            None => (scale, false),
            Some(Multiplier { weight, kernel }) => {
                let taps = weight.values.len() / scale.len().max(1);
                let scaled = weight.values.iter().enumerate();
                let weights = scaled.map(|(index, weight)| weight * scale[index / taps.max(1)]);
                (weights.collect(), *kernel)
            }
        };
        FoldedSite {
            weights,
            bias,
            kernel,
            trained: self.trained(),
        }
    }

    /// Returns the gradients of the multiplier (if there is one), γ and β from those of the folded weights and bias.
    fn unfold(&self, d_weights: Vec<f32>, d_bias: Vec<f32>) -> Vec<Vec<f32>> {
        let scale = self.scale();
        let mut gradients = Vec::with_capacity(3);
        let from_weights = match &self.multiplier {
            None => d_weights,
            Some(Multiplier { weight, .. }) => {
                let taps = (weight.values.len() / scale.len().max(1)).max(1);
                let products = d_weights.chunks_exact(taps).zip(weight.values.chunks_exact(taps));
                let d_scale = products.map(|(gradient, weight)| gradient.iter().zip(weight).map(|(g, w)| g * w).sum());
                let d_scale: Vec<f32> = d_scale.collect();
                let d_multiplier = d_weights.iter().enumerate();
                gradients.push(d_multiplier.map(|(index, g)| g * scale[index / taps]).collect());
                d_scale
            }
        };
        let d_gamma = (from_weights.iter().zip(&d_bias))
            .zip(self.norm.mean.iter().zip(&self.inverse_deviation))
            .map(|((d_scale, d_bias), (mean, inverse))| (d_scale - d_bias * mean) * inverse);
        gradients.push(d_gamma.collect());
        gradients.push(d_bias);
        gradients
    }
}

impl Site {
    /// Returns the folded parameters; `None` for a frozen site.
    pub(crate) fn folded(&self) -> Option<FoldedSite> {
        match self {
            Self::Frozen => None,
            Self::Normed(site) => Some(site.folded()),
            Self::Difference(site) => Some(site.folded()),
            Self::Folded { weights, bias } => Some(FoldedSite {
                weights: weights.weight.values.clone(),
                bias: bias.values.clone(),
                kernel: weights.kernel,
                trained: weights.weight.trained || bias.trained,
            }),
        }
    }

    /// Returns the gradients of the site's weights, in the order of [`Site::weights`], from those of the folded
    /// weights.
    pub(crate) fn unfold(&self, d_weights: Vec<f32>, d_bias: Vec<f32>) -> Vec<Vec<f32>> {
        match self {
            Self::Frozen => Vec::new(),
            Self::Normed(site) => site.unfold(d_weights, d_bias),
            Self::Difference(site) => site.unfold(d_weights, d_bias),
            Self::Folded { .. } => vec![d_weights, d_bias],
        }
    }

    /// Returns the weights, each with its part of the name and its group, in the order of parameters and snapshots.
    pub(crate) fn weights(&self) -> Weights<&Weight> {
        match self {
            Self::Frozen => Vec::new(),
            Self::Normed(site) => {
                let multiplier = site.multiplier.as_ref();
                let multiplier = multiplier.map(|multiplier| {
                    let part = if multiplier.kernel { "kernel" } else { "scale" };
                    (part, Group::Kernel, &multiplier.weight)
                });
                let norm = [
                    ("norm.scale", Group::Norm, &site.gamma),
                    ("norm.bias", Group::Norm, &site.beta),
                ];
                multiplier.into_iter().chain(norm).collect()
            }
            Self::Difference(site) => folded_weights(&site.weights, &site.bias),
            Self::Folded { weights, bias } => folded_weights(weights, bias),
        }
    }

    /// Mutable form of [`Site::weights`].
    pub(crate) fn weights_mut(&mut self) -> Weights<&mut Weight> {
        match self {
            Self::Frozen => Vec::new(),
            Self::Normed(site) => {
                let NormedSite {
                    multiplier,
                    gamma,
                    beta,
                    ..
                } = &mut **site;
                let multiplier = multiplier.as_mut().map(|multiplier| {
                    let part = if multiplier.kernel { "kernel" } else { "scale" };
                    (part, Group::Kernel, &mut multiplier.weight)
                });
                let norm = [("norm.scale", Group::Norm, gamma), ("norm.bias", Group::Norm, beta)];
                multiplier.into_iter().chain(norm).collect()
            }
            Self::Folded { weights, bias } => {
                let (part, group) = folded_part(weights.kernel);
                vec![(part, group, &mut weights.weight), ("bias", Group::Norm, bias)]
            }
            Self::Difference(site) => {
                let (part, group) = folded_part(site.weights.kernel);
                vec![
                    (part, group, &mut site.weights.weight),
                    ("bias", Group::Norm, &mut site.bias),
                ]
            }
        }
    }
}

fn folded_weights<'a>(weights: &'a Multiplier, bias: &'a Weight) -> Weights<&'a Weight> {
    let (part, group) = folded_part(weights.kernel);
    vec![(part, group, &weights.weight), ("bias", Group::Norm, bias)]
}

fn folded_part(kernel: bool) -> (&'static str, Group) {
    if kernel {
        ("kernel", Group::Kernel)
    } else {
        ("scale", Group::Norm)
    }
}

/// Identity kernels, `[channels, 3, 3]`.
pub(crate) fn identity(channels: usize) -> Vec<f32> {
    [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|index| ((index * 37 + seed * 11) % 17) as f32 / 10.0 - 0.7)
            .collect()
    }

    fn site(kind: SiteKind, unit_scale: bool) -> NormedSite {
        let frozen = FrozenSite {
            name: "conv".to_owned(),
            channels: 3,
            kernel: [3; 2],
            norm: SiteNorm {
                scale: vec![1.2, 0.7, -0.4],
                bias: vec![0.1, -0.2, 0.3],
                mean: vec![0.5, -0.8, 0.2],
                variance: vec![0.4, 1.5, 0.9],
                epsilon: 1e-3,
                present: true,
            },
        };
        let mut site = NormedSite::new(&frozen, kind, unit_scale);
        if let Some(multiplier) = &mut site.multiplier {
            multiplier.weight.values = values(multiplier.weight.values.len(), 1);
        }
        site
    }

    /// `Σ d · folded value`.
    fn product(site: &Site, d_weights: &[f32], d_bias: &[f32]) -> f64 {
        let folded = site.folded().unwrap();
        let pairs = (folded.weights.iter().zip(d_weights)).chain(folded.bias.iter().zip(d_bias));
        pairs.map(|(&value, &d)| f64::from(value) * f64::from(d)).sum()
    }

    #[test]
    fn gradients_through_the_folding_are_finite_differences() {
        for (kind, unit_scale, parts) in [
            (SiteKind::Kernel, false, 3),
            (SiteKind::Scale, true, 3),
            (SiteKind::Scale, false, 2),
        ] {
            let mut site = Site::Normed(Box::new(site(kind, unit_scale)));
            let folded = site.folded().unwrap();
            let (d_weights, d_bias) = (values(folded.weights.len(), 5), values(folded.bias.len(), 9));
            let gradients = site.unfold(d_weights.clone(), d_bias.clone());
            assert_eq!(gradients.len(), parts);
            for (part, gradient) in gradients.iter().enumerate() {
                for (index, &got) in gradient.iter().enumerate() {
                    let at = |site: &mut Site, step: f32| {
                        site.weights_mut()[part].2.values[index] += step;
                        let value = product(site, &d_weights, &d_bias);
                        site.weights_mut()[part].2.values[index] -= step;
                        value
                    };
                    // The folding is linear in each single value, so a large step is exact except for rounding.
                    let want = (at(&mut site, 0.5) - at(&mut site, -0.5)) as f32;
                    assert!(
                        (got - want).abs() < 1e-5 * want.abs().max(1.0),
                        "{kind:?} {part} {index}: {got} {want}"
                    );
                }
            }
        }
    }
}
