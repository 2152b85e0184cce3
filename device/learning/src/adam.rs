//! Adam and `AdamW` (Kingma and Ba 2015; Loshchilov and Hutter 2019).
//!
//! Each group of parameters has a learning rate and a weight decay. The decay is towards an anchor in place of zero,
//! and gradients are clipped by their global norm.

use serde::{Deserialize, Serialize};

use crate::{Gradients, Group, Parameter};

/// A number for each group of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerGroup {
    /// The classifier.
    pub head: f64,
    /// Norms (and folded scales and biases).
    pub norm: f64,
    /// CLR kernels.
    pub kernel: f64,
}

impl PerGroup {
    /// Returns the same number for all groups.
    pub const fn all(value: f64) -> Self {
        Self {
            head: value,
            norm: value,
            kernel: value,
        }
    }

    /// Returns the number of the group.
    pub const fn of(&self, group: Group) -> f64 {
        match group {
            Group::Head => self.head,
            Group::Norm => self.norm,
            Group::Kernel => self.kernel,
        }
    }
}

/// Options of [`Adam`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdamOptions {
    /// Learning rates.
    pub rates: PerGroup,
    /// Decoupled weight decay towards the anchor, `rate · decay` per step.
    pub decay: PerGroup,
    /// Whether rates are multiplied by each channel's own magnitude.
    pub relative: bool,
    /// Factor of the (not squared) L2 norm of each parameter in the loss.
    pub l2_norm: f64,
    /// Factor of the L1 norm of the distance from the anchor, applied as a soft threshold of `rate · l1` per step (in
    /// units of the channel with `relative`), so that values without a use become exactly the anchor.
    pub l1: PerGroup,
    /// Maximum global gradient norm.
    pub clip: Option<f64>,
    /// Decay of the squared gradients' average.
    pub beta2: f64,
}

impl AdamOptions {
    /// Creates options with these learning rates, without decay, penalty or clipping, and a `beta2` of 0.999.
    pub const fn new(rates: PerGroup) -> Self {
        Self {
            rates,
            decay: PerGroup::all(0.0),
            relative: false,
            l2_norm: 0.0,
            l1: PerGroup::all(0.0),
            clip: None,
            beta2: 0.999,
        }
    }

    /// Sets the factor of the L1 norm of the distance from the anchor.
    #[must_use]
    pub fn with_l1(mut self, l1: PerGroup) -> Self {
        self.l1 = l1;
        self
    }

    /// Sets the decoupled decay towards the anchor, per step `rate · decay`.
    #[must_use]
    pub fn with_decay(mut self, decay: PerGroup) -> Self {
        self.decay = decay;
        self
    }

    /// Sets whether rates are multiplied by each channel's own magnitude.
    #[must_use]
    pub fn with_relative(mut self, relative: bool) -> Self {
        self.relative = relative;
        self
    }

    /// Sets the factor of the (not squared) L2 norm of each parameter in the loss.
    #[must_use]
    pub fn with_l2_norm(mut self, l2_norm: f64) -> Self {
        self.l2_norm = l2_norm;
        self
    }

    /// Sets the maximum global gradient norm; `None` for no maximum.
    #[must_use]
    pub fn with_clip(mut self, clip: impl Into<Option<f64>>) -> Self {
        self.clip = clip.into();
        self
    }

    /// Sets the decay of the squared gradients' average.
    #[must_use]
    pub fn with_beta2(mut self, beta2: f64) -> Self {
        self.beta2 = beta2;
        self
    }
}

/// State from which a resumed run continues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamState {
    /// Number of updates so far.
    pub step: u64,
    /// Moving averages of the gradients, in the parameters' order.
    pub first: Vec<Vec<f32>>,
    /// Averages of their squares.
    pub second: Vec<Vec<f32>>,
}

/// The optimiser: [`Network::parameters`](crate::Network::parameters) and their moments. It stores the current values;
/// the caller copies them to the network.
pub struct Adam {
    parameters: Vec<Parameter>,
    values: Vec<Vec<f32>>,
    state: AdamState,
    options: AdamOptions,
}

const BETA1: f64 = 0.9;
const EPSILON: f64 = 1e-8;

impl Adam {
    /// Creates an optimiser with the parameters' current values. The moments are new, or those of a stopped run.
    pub fn new(parameters: Vec<Parameter>, options: AdamOptions, state: Option<AdamState>) -> Self {
        let values: Vec<Vec<f32>> = parameters.iter().map(|parameter| parameter.values.clone()).collect();
        let zeros = || values.iter().map(|values| vec![0.0; values.len()]).collect::<Vec<_>>();
        let state = state.unwrap_or_else(|| AdamState {
            step: 0,
            first: zeros(),
            second: zeros(),
        });
        Self {
            parameters,
            values,
            state,
            options,
        }
    }

    /// Returns the number of updates so far and the moments.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// Returns the current values, in the parameters' order.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Performs one update with the rates times `factor`, and returns the new values. `gradients` are in the
    /// parameters' order.
    pub fn step(&mut self, gradients: &Gradients, factor: f64) -> &[Vec<f32>] {
        let mut own = gradients.clone();
        if self.options.l2_norm > 0.0 {
            for (gradient, values) in own.iter_mut().zip(&self.values) {
                let Some(gradient) = gradient else { continue };
                let norm = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
                if norm > 0.0 {
                    let factor = (self.options.l2_norm / norm) as f32;
                    gradient
                        .iter_mut()
                        .zip(values)
                        .for_each(|(gradient, value)| *gradient += factor * value);
                }
            }
        }
        let clip = self.options.clip.map_or(1.0, |limit| {
            let squares = own.iter().flatten().flatten().map(|&value| f64::from(value).powi(2));
            (limit / squares.sum::<f64>().sqrt().max(1e-12)).min(1.0)
        });
        self.state.step += 1;
        let beta2 = self.options.beta2;
        let correction1 = 1.0 - BETA1.powf(self.state.step as f64);
        let correction2 = 1.0 - beta2.powf(self.state.step as f64);
        for (index, parameter) in self.parameters.iter().enumerate() {
            let Some(Some(gradient)) = own.get(index) else { continue };
            let rate = factor * self.options.rates.of(parameter.group);
            if rate == 0.0 {
                continue;
            }
            let threshold = rate * self.options.l1.of(parameter.group);
            let keep = rate * self.options.decay.of(parameter.group);
            let values = &mut self.values[index];
            let (first, second) = (&mut self.state.first[index], &mut self.state.second[index]);
            let per_channel = (values.len() / parameter.unit.len().max(1)).max(1);
            for (element, value) in values.iter_mut().enumerate() {
                let gradient = clip * f64::from(gradient[element]);
                let mean = BETA1 * f64::from(first[element]) + (1.0 - BETA1) * gradient;
                let square = beta2 * f64::from(second[element]) + (1.0 - beta2) * gradient * gradient;
                (first[element], second[element]) = (mean as f32, square as f32);
                let direction = (mean / correction1) / ((square / correction2).sqrt() + EPSILON);
                let unit = if self.options.relative {
                    f64::from(parameter.unit[(element / per_channel).min(parameter.unit.len() - 1)])
                } else {
                    1.0
                };
                let pull = keep * f64::from(*value - parameter.anchor[element]);
                let moved = f64::from(*value) - rate * unit * direction - pull;
                *value = if threshold > 0.0 {
                    let anchor = f64::from(parameter.anchor[element]);
                    let distance = moved - anchor;
                    (anchor + distance.signum() * (distance.abs() - threshold * unit).max(0.0)) as f32
                } else {
                    moved as f32
                };
            }
        }
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(values: &[f32], group: Group) -> Parameter {
        Parameter {
            name: "p".into(),
            group,
            values: values.to_vec(),
            anchor: vec![1.0; values.len()],
            unit: vec![1.0],
        }
    }

    fn options() -> AdamOptions {
        AdamOptions {
            rates: PerGroup::all(0.1),
            decay: PerGroup::all(0.0),
            relative: false,
            l2_norm: 0.0,
            l1: PerGroup::all(0.0),
            clip: None,
            beta2: 0.999,
        }
    }

    #[test]
    fn an_l1_penalty_moves_values_to_exactly_the_anchor() {
        let options = options().with_l1(PerGroup::all(0.5));
        let mut adam = Adam::new(vec![parameter(&[1.03, 3.0, 0.98], Group::Kernel)], options, None);
        adam.step(&vec![Some(vec![0.0; 3])], 1.0);
        assert_eq!(adam.values()[0], [1.0, 2.95, 1.0]);
    }

    /// Reference: `torch.optim.Adam([x], lr=0.1)`, loss `(x²·[1, 2]).sum()`, x = [1, −3], three steps (PyTorch 2, f32).
    #[test]
    fn three_steps_equal_pytorch() {
        let mut adam = Adam::new(vec![parameter(&[1.0, -3.0], Group::Head)], options(), None);
        for _ in 0..3 {
            let x = &adam.values()[0];
            let gradient = vec![2.0 * x[0], 4.0 * x[1]];
            adam.step(&vec![Some(gradient)], 1.0);
        }
        let values = &adam.values()[0];
        assert!(
            (values[0] - 0.701_586_3).abs() < 2e-6 && (values[1] + 2.700_381_5).abs() < 2e-6,
            "{values:?}"
        );
    }

    #[test]
    fn decay_pulls_towards_the_anchor_and_spares_other_groups() {
        let parameters = vec![parameter(&[3.0], Group::Kernel), parameter(&[3.0], Group::Head)];
        let decay = PerGroup {
            head: 0.0,
            norm: 0.0,
            kernel: 1.0,
        };
        let mut adam = Adam::new(parameters, AdamOptions { decay, ..options() }, None);
        let values = adam.step(&vec![Some(vec![1e-30]), Some(vec![1e-30])], 1.0);
        let (kernel, head) = (values[0][0], values[1][0]);
        assert!((kernel - 2.8).abs() < 1e-6, "{kernel}");
        assert!((head - 3.0).abs() < 1e-6, "{head}");
    }

    #[test]
    fn a_parameter_without_a_gradient_keeps_its_value() {
        let mut adam = Adam::new(vec![parameter(&[3.0], Group::Head); 2], options(), None);
        let values = adam.step(&vec![None, Some(vec![1.0])], 1.0);
        assert_eq!(values[0], [3.0]);
        assert!(values[1][0] < 3.0);
    }
}
