//! Sites as differences from the backbone's own norm.
//!
//! A site multiplies the bias-free output of a convolution by a kernel or scale and adds a bias. The backbone's own norm
//! does the same with the identity kernel: `factor = γ / √(σ² + ε)`, `offset = β + (c − μ) · factor`, where `c` is the
//! convolution's bias. Most of what a task learns is small compared with these, so format version 3 stores
//!
//! * kernel and scale: `(value − own) / unit`, where `own` is the factor at the centre and 0 elsewhere, and `unit` is the
//!   factor's magnitude;
//! * bias: `(value − offset) / unit`, where `unit` is the magnitude of γ, the deviation of the norm's output.
//!
//! Units are at least a twentieth of the site's mean, so that a channel that the backbone does not use can still be
//! expressed. All products are computed in f64 and rounded once, so every platform computes the same bits.

use alloc::{vec, vec::Vec};

use crate::{Site, SiteSteps, SiteWeights};

/// Least unit of a channel, as a fraction of the site's mean.
const LEAST_UNIT: f64 = 0.05;

/// The backbone's own norm at a site. All vectors `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedNorm {
    factor: Vec<f64>,
    offset: Vec<f64>,
    weight_unit: Vec<f64>,
    bias_unit: Vec<f64>,
}

impl FoldedNorm {
    /// Creates a norm from its factor, its offset and γ, `[C]` each. Without a norm, factor and γ are 1.
    #[must_use]
    pub fn new(factor: Vec<f64>, offset: Vec<f64>, gamma: &[f64]) -> Self {
        Self {
            weight_unit: units(&factor),
            bias_unit: units(gamma),
            factor,
            offset,
        }
    }

    /// Returns the number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.factor.len()
    }

    /// Returns the units of a channel's weights and bias.
    #[must_use]
    pub fn units(&self, channel: usize) -> [f64; 2] {
        [self.weight_unit[channel], self.bias_unit[channel]]
    }

    /// Returns the values that stand for these differences: `[C, 3, 3]` of kernels, `[C]` of scales.
    #[must_use]
    pub fn weights(&self, differences: &[f32]) -> Vec<f32> {
        let taps = self.taps(differences.len());
        let value = |(index, &difference): (usize, &f32)| {
            let channel = index / taps;
            (self.own(index, taps) + f64::from(difference) * self.weight_unit[channel]) as f32
        };
        differences.iter().enumerate().map(value).collect()
    }

    /// Returns the biases `[C]` that stand for these differences.
    #[must_use]
    pub fn biases(&self, differences: &[f32]) -> Vec<f32> {
        let own = self.offset.iter().zip(&self.bias_unit);
        let values = differences.iter().zip(own);
        values
            .map(|(&difference, (offset, unit))| (offset + f64::from(difference) * unit) as f32)
            .collect()
    }

    /// Returns the site with its absolute values; a copy if they are absolute already.
    #[must_use]
    pub fn absolute(&self, site: &Site) -> Site {
        if site.steps.is_none() {
            return site.clone();
        }
        Site {
            name: site.name.clone(),
            weights: match &site.weights {
                SiteWeights::Scale(values) => SiteWeights::Scale(self.weights(values)),
                SiteWeights::Kernel(values) => SiteWeights::Kernel(self.weights(values)),
            },
            bias: self.biases(&site.bias),
            steps: None,
        }
    }

    /// Returns the differences of absolute weights `[C, 3, 3]` or `[C]`, not rounded.
    #[must_use]
    pub fn weight_differences(&self, values: &[f32]) -> Vec<f32> {
        let taps = self.taps(values.len());
        let difference = |(index, &value): (usize, &f32)| {
            ((f64::from(value) - self.own(index, taps)) / self.weight_unit[index / taps]) as f32
        };
        values.iter().enumerate().map(difference).collect()
    }

    /// Returns the differences of absolute biases `[C]`, not rounded.
    #[must_use]
    pub fn bias_differences(&self, values: &[f32]) -> Vec<f32> {
        let own = self.offset.iter().zip(&self.bias_unit);
        let differences = values.iter().zip(own);
        differences
            .map(|(&value, (offset, unit))| ((f64::from(value) - offset) / unit) as f32)
            .collect()
    }

    /// Returns the site as differences, rounded to multiples of `steps`. A site that already has other steps is rounded
    /// to the new ones.
    #[must_use]
    pub fn differences(&self, site: &Site, steps: SiteSteps) -> Site {
        let relative = site.steps.is_some();
        let weights = |values: &[f32]| {
            if relative {
                steps.weights.round(values)
            } else {
                steps.weights.round(&self.weight_differences(values))
            }
        };
        Site {
            name: site.name.clone(),
            weights: match &site.weights {
                SiteWeights::Scale(values) => SiteWeights::Scale(weights(values)),
                SiteWeights::Kernel(values) => SiteWeights::Kernel(weights(values)),
            },
            bias: if relative {
                steps.bias.round(&site.bias)
            } else {
                steps.bias.round(&self.bias_differences(&site.bias))
            },
            steps: Some(steps),
        }
    }

    fn taps(&self, values: usize) -> usize {
        (values / self.channels().max(1)).max(1)
    }

    /// Returns the backbone's own weight at an index: its factor in the centre of a kernel, and 0 around it.
    fn own(&self, index: usize, taps: usize) -> f64 {
        if index % taps == taps / 2 {
            self.factor[index / taps]
        } else {
            0.0
        }
    }
}

fn units(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().map(|value| value.abs()).sum::<f64>() / values.len().max(1) as f64;
    if mean == 0.0 {
        return vec![1.0; values.len()];
    }
    values.iter().map(|value| value.abs().max(LEAST_UNIT * mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StepSize;

    fn norm() -> FoldedNorm {
        FoldedNorm::new(
            vec![0.5, -2.0, 0.0, 1.5],
            vec![0.25, 1.0, -3.0, 0.0],
            &[1.0, 0.5, 0.0, 2.0],
        )
    }

    fn kernels() -> Site {
        Site {
            name: None,
            weights: SiteWeights::Kernel((0..36).map(|index| (index * 13 % 17) as f32 / 8.0 - 1.0).collect()),
            bias: vec![0.5, -1.0, 2.0, 0.125],
            steps: None,
        }
    }

    #[test]
    fn no_difference_is_the_norm_itself() {
        let zeros = Site {
            name: None,
            weights: SiteWeights::Kernel(vec![0.0; 36]),
            bias: vec![0.0; 4],
            steps: Some(SiteSteps {
                weights: StepSize(-16),
                bias: StepSize(-8),
            }),
        };
        let own = norm().absolute(&zeros);
        let centres: Vec<f32> = own.weights.values().iter().copied().skip(4).step_by(9).collect();
        assert_eq!(centres, [0.5, -2.0, 0.0, 1.5]);
        assert_eq!(own.weights.values().iter().filter(|value| **value != 0.0).count(), 3);
        assert_eq!(own.bias, [0.25, 1.0, -3.0, 0.0]);
    }

    #[test]
    fn absolute_values_return_to_within_half_a_step_and_then_stay() {
        let steps = SiteSteps {
            weights: StepSize(-20),
            bias: StepSize(-12),
        };
        let rounded = norm().differences(&kernels(), steps);
        let back = norm().absolute(&rounded);
        for (index, (want, got)) in kernels().weights.values().iter().zip(back.weights.values()).enumerate() {
            let [unit, _] = norm().units(index / 9);
            let bound = 0.5001 * steps.weights.size() * unit;
            assert!(f64::from((want - got).abs()) <= bound, "{index}: {want} {got}");
        }
        assert_eq!(norm().differences(&back, steps), rounded);
        assert_eq!(norm().differences(&rounded, steps), rounded);
    }

    #[test]
    fn a_channel_without_a_factor_has_a_unit_of_the_sites_size() {
        assert_eq!(norm().units(2), [0.05, 0.05 * 0.875]);
        let flat = FoldedNorm::new(vec![0.0; 2], vec![0.0; 2], &[0.0; 2]);
        assert_eq!(flat.units(1), [1.0, 1.0]);
    }
}
