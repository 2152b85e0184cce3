//! Adam and `AdamW` (Kingma and Ba 2015; Loshchilov and Hutter 2019) with a rate and a decay for each group, decay towards an
//! anchor instead of zero, and clipping by the global norm.

use candle_core::{Tensor, backprop::GradStore};
use serde::{Deserialize, Serialize};

use crate::{
    error::Result,
    network::{Group, Parameter},
};

/// One number for each group of parameters.
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
    /// The same number for all.
    pub const fn all(value: f64) -> Self {
        Self {
            head: value,
            norm: value,
            kernel: value,
        }
    }

    /// The number of one group.
    pub const fn of(&self, group: Group) -> f64 {
        match group {
            Group::Head => self.head,
            Group::Norm => self.norm,
            Group::Kernel => self.kernel,
        }
    }
}

/// How [`Adam`] steps.
#[derive(Clone, Debug)]
pub struct AdamOptions {
    /// Size of a step.
    pub rates: PerGroup,
    /// Decoupled decay towards the anchor, per step `rate · decay`.
    pub decay: PerGroup,
    /// Multiply rates by each channel's own magnitude.
    pub relative: bool,
    /// Factor of the (not squared) L2 norm of each parameter in the loss.
    pub l2_norm: f64,
    /// Largest global gradient norm.
    pub clip: Option<f64>,
    /// Decay of the squared gradients' average.
    pub beta2: f64,
}

/// What a resumed run needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamState {
    /// Updates so far.
    pub step: u64,
    /// Averages of the gradients, in the parameters' order.
    pub first: Vec<Vec<f32>>,
    /// Averages of their squares.
    pub second: Vec<Vec<f32>>,
}

/// The optimiser: [`Network::parameters`](crate::Network::parameters) and their moments.
pub struct Adam {
    parameters: Vec<Parameter>,
    values: Vec<Vec<f32>>,
    state: AdamState,
    options: AdamOptions,
}

const BETA1: f64 = 0.9;
const EPSILON: f64 = 1e-8;

impl Adam {
    /// Starts from the parameters' present values, with fresh moments or those of a stopped run.
    pub fn new(parameters: Vec<Parameter>, options: AdamOptions, state: Option<AdamState>) -> Result<Self> {
        let values = (parameters.iter())
            .map(|parameter| parameter.var.flatten_all()?.to_vec1())
            .collect::<candle_core::Result<Vec<Vec<f32>>>>()?;
        let zeros = || values.iter().map(|values| vec![0.0; values.len()]).collect::<Vec<_>>();
        let state = state.unwrap_or_else(|| AdamState {
            step: 0,
            first: zeros(),
            second: zeros(),
        });
        Ok(Self {
            parameters,
            values,
            state,
            options,
        })
    }

    /// Updates and moments so far.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// The present values, in the parameters' order.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// One update with rates times `factor`.
    pub fn step(&mut self, gradients: &GradStore, factor: f64) -> Result<()> {
        let mut own: Vec<Option<Vec<f32>>> = (self.parameters.iter())
            .map(|parameter| {
                gradients
                    .get(&parameter.var)
                    .map(|gradient| gradient.flatten_all()?.to_vec1())
                    .transpose()
            })
            .collect::<candle_core::Result<_>>()?;
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
            let Some(gradient) = &own[index] else { continue };
            let rate = factor * self.options.rates.of(parameter.group);
            if rate == 0.0 {
                continue;
            }
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
                *value = (f64::from(*value) - rate * unit * direction - pull) as f32;
            }
            let tensor = Tensor::from_slice(values, parameter.var.shape(), parameter.var.device())?;
            parameter.var.set(&tensor)?;
        }
        Ok(())
    }

    /// Writes `values` into the variables, without touching the optimiser's own copy.
    pub fn show(&self, values: &[Vec<f32>]) -> Result<()> {
        for (parameter, values) in self.parameters.iter().zip(values) {
            parameter.var.set(&Tensor::from_slice(
                values,
                parameter.var.shape(),
                parameter.var.device(),
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn parameter(values: &[f32], group: Group) -> Parameter {
        let var = Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        Parameter {
            name: "p".into(),
            var,
            group,
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
            clip: None,
            beta2: 0.999,
        }
    }

    /// `torch.optim.Adam([x], lr=0.1)`, loss `(x²·[1, 2]).sum()`, x = [1, −3], three steps (PyTorch 2, f32).
    #[test]
    fn three_steps_equal_pytorch() {
        let parameter = parameter(&[1.0, -3.0], Group::Head);
        let var = parameter.var.clone();
        let mut adam = Adam::new(vec![parameter], options(), None).unwrap();
        for _ in 0..3 {
            let weight = Tensor::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap();
            let loss = (var.sqr().unwrap() * weight).unwrap().sum_all().unwrap();
            adam.step(&loss.backward().unwrap(), 1.0).unwrap();
        }
        let values = var.to_vec1::<f32>().unwrap();
        assert!(
            (values[0] - 0.701_586_3).abs() < 2e-6 && (values[1] + 2.700_381_5).abs() < 2e-6,
            "{values:?}"
        );
    }

    #[test]
    fn decay_pulls_towards_the_anchor_and_spares_other_groups() {
        let (kernel, head) = (parameter(&[3.0], Group::Kernel), parameter(&[3.0], Group::Head));
        let (kernel_var, head_var) = (kernel.var.clone(), head.var.clone());
        let decay = PerGroup {
            head: 0.0,
            norm: 0.0,
            kernel: 1.0,
        };
        let mut adam = Adam::new(vec![kernel, head], AdamOptions { decay, ..options() }, None).unwrap();
        let loss = ((kernel_var.as_tensor() * 1e-30).unwrap() + (head_var.as_tensor() * 1e-30).unwrap()).unwrap();
        adam.step(&loss.sum_all().unwrap().backward().unwrap(), 1.0).unwrap();
        let (kernel, head) = (
            kernel_var.to_vec1::<f32>().unwrap()[0],
            head_var.to_vec1::<f32>().unwrap()[0],
        );
        assert!((kernel - 2.8).abs() < 1e-6, "{kernel}");
        assert!((head - 3.0).abs() < 1e-6, "{head}");
    }
}
