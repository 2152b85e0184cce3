//! The head alone: multinomial logistic regression with an L2 penalty on frozen features, by L-BFGS (Liu and Nocedal
//! 1989). The problem is convex, so the answer depends on the data and the penalty alone.

use std::collections::VecDeque;

use candle_core::{D, Device, Tensor};
use clr_adapters::Head;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// How the head is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadFit {
    /// Penalties to try, strongest first: the one with the least validation loss is taken. In units of features scaled
    /// to a mean variance of one.
    pub penalties: Vec<f64>,
    /// Largest number of iterations for each penalty.
    pub iterations: usize,
}

impl Default for HeadFit {
    fn default() -> Self {
        Self {
            penalties: vec![3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4],
            iterations: 60,
        }
    }
}

/// Frozen features `[N, F]` with classes.
pub(crate) struct Features {
    pub(crate) values: Tensor,
    pub(crate) labels: Vec<u32>,
}

/// The chosen head.
pub(crate) struct FittedHead {
    pub(crate) head: Head,
    pub(crate) penalty: f64,
}

/// Fits a head for each penalty on `train`, each starting from the one before, and returns the one with the least
/// cross-entropy on `validation`.
pub(crate) fn fit_head(
    train: &Features,
    validation: &Features,
    classes: usize,
    options: &HeadFit,
    mut progress: impl FnMut(usize),
) -> Result<FittedHead> {
    let scaling = Scaling::of(&train.values)?;
    let problem = Problem::new(&scaling.apply(&train.values)?, &train.labels, classes)?;
    let tested = Problem::new(&scaling.apply(&validation.values)?, &validation.labels, classes)?;
    let mut weights = vec![0.0_f32; problem.size()];
    let mut best: Option<(f64, Vec<f32>, f64)> = None;
    for (index, &penalty) in options.penalties.iter().enumerate() {
        weights = minimise(|weights| problem.loss(weights, penalty), weights, options.iterations)?;
        let loss = tested.loss(&weights, 0.0)?.0;
        if best.as_ref().is_none_or(|(least, _, _)| loss < *least) {
            best = Some((loss, weights.clone(), penalty));
        }
        progress(index + 1);
    }
    let (weights, penalty) = best.map_or((weights, 0.0), |(_, weights, penalty)| (weights, penalty));
    Ok(FittedHead {
        head: scaling.unapply(&weights, classes),
        penalty,
    })
}

/// Features are centred, and divided by one number for all, so that a penalty means the same on every backbone.
struct Scaling {
    mean: Vec<f32>,
    deviation: f32,
}

impl Scaling {
    fn of(features: &Tensor) -> Result<Self> {
        let mean = features.mean_keepdim(0)?;
        let variance = features.broadcast_sub(&mean)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
        Ok(Self {
            mean: mean.flatten_all()?.to_vec1()?,
            deviation: variance.sqrt().max(1e-12),
        })
    }

    fn apply(&self, features: &Tensor) -> Result<Tensor> {
        let mean = Tensor::from_slice(&self.mean, (1, self.mean.len()), features.device())?;
        Ok((features.broadcast_sub(&mean)? / f64::from(self.deviation))?)
    }

    /// The head on unscaled features.
    fn unapply(&self, weights: &[f32], classes: usize) -> Head {
        let features = self.mean.len();
        let (weight, bias) = weights.split_at(classes * features);
        let weight: Vec<f32> = weight.iter().map(|value| value / self.deviation).collect();
        let bias = (weight.chunks_exact(features.max(1)).zip(bias))
            .map(|(row, &bias)| {
                let shift: f64 = row
                    .iter()
                    .zip(&self.mean)
                    .map(|(&w, &mean)| f64::from(w) * f64::from(mean))
                    .sum();
                (f64::from(bias) - shift) as f32
            })
            .collect();
        Head { features, weight, bias }
    }
}

struct Problem {
    features: Tensor,
    one_hot: Tensor,
    classes: usize,
}

impl Problem {
    fn new(features: &Tensor, labels: &[u32], classes: usize) -> Result<Self> {
        let mut one_hot = vec![0.0_f32; labels.len() * classes];
        for (row, &label) in one_hot.chunks_exact_mut(classes).zip(labels) {
            row[label as usize] = 1.0;
        }
        let one_hot = Tensor::from_vec(one_hot, (labels.len(), classes), &Device::Cpu)?;
        Ok(Self {
            features: features.to_device(&Device::Cpu)?,
            one_hot,
            classes,
        })
    }

    fn size(&self) -> usize {
        self.classes * (self.features.dims()[1] + 1)
    }

    /// Mean cross-entropy + penalty / 2 · ‖W‖², and its gradient; `weights` is W `[K, F]` and then the bias `[K]`.
    fn loss(&self, weights: &[f32], penalty: f64) -> Result<(f64, Vec<f32>)> {
        let (n, f) = self.features.dims2()?;
        let (weight, bias) = weights.split_at(self.classes * f);
        let matrix = Tensor::from_slice(weight, (self.classes, f), &Device::Cpu)?;
        let bias = Tensor::from_slice(bias, self.classes, &Device::Cpu)?;
        let logits = self.features.matmul(&matrix.t()?)?.broadcast_add(&bias)?;
        let log = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        let picked = (&log * &self.one_hot)?.flatten_all()?.to_vec1::<f32>()?;
        let entropy = -picked.iter().map(|&value| f64::from(value)).sum::<f64>() / n as f64;
        let square: f64 = weight.iter().map(|&value| f64::from(value).powi(2)).sum();
        let residual = ((log.exp()? - &self.one_hot)? / n as f64)?;
        let mut gradient = residual.t()?.matmul(&self.features)?.flatten_all()?.to_vec1::<f32>()?;
        gradient
            .iter_mut()
            .zip(weight)
            .for_each(|(gradient, weight)| *gradient += penalty as f32 * weight);
        gradient.extend(residual.sum(0)?.to_vec1::<f32>()?);
        Ok((entropy + 0.5 * penalty * square, gradient))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// L-BFGS with a memory of 10 and backtracking to sufficient decrease.
fn minimise(
    mut function: impl FnMut(&[f32]) -> Result<(f64, Vec<f32>)>,
    start: Vec<f32>,
    iterations: usize,
) -> Result<Vec<f32>> {
    const MEMORY: usize = 10;
    let mut x = start;
    let (mut value, mut gradient) = function(&x)?;
    let mut pairs: VecDeque<(Vec<f32>, Vec<f32>, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..iterations {
        let mut direction = gradient.clone();
        let mut factors = Vec::with_capacity(pairs.len());
        for (step, change, product) in pairs.iter().rev() {
            let factor = dot(step, &direction) / product;
            direction
                .iter_mut()
                .zip(change)
                .for_each(|(d, y)| *d -= factor as f32 * y);
            factors.push(factor);
        }
        let scale = match pairs.back() {
            Some((_, change, product)) => product / dot(change, change),
            None => 1.0 / dot(&gradient, &gradient).sqrt().max(1.0),
        };
        for value in &mut direction {
            *value *= scale as f32;
        }
        for ((step, change, product), factor) in pairs.iter().zip(factors.into_iter().rev()) {
            let correction = factor - dot(change, &direction) / product;
            direction
                .iter_mut()
                .zip(step)
                .for_each(|(d, s)| *d += correction as f32 * s);
        }
        let slope = -dot(&gradient, &direction);
        if slope > -1e-12 {
            break;
        }
        let mut length = 1.0_f64;
        let accepted = loop {
            let candidate: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x - length as f32 * d).collect();
            let (new_value, new_gradient) = function(&candidate)?;
            if new_value <= value + 1e-4 * length * slope {
                break Some((candidate, new_value, new_gradient));
            }
            length *= 0.5;
            if length < 1e-6 {
                break None;
            }
        };
        let Some((candidate, new_value, new_gradient)) = accepted else {
            break;
        };
        let step: Vec<f32> = candidate.iter().zip(&x).map(|(new, old)| new - old).collect();
        let change: Vec<f32> = new_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        let product = dot(&step, &change);
        if product > 1e-12 {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((step, change, product));
        }
        let improvement = value - new_value;
        (x, value, gradient) = (candidate, new_value, new_gradient);
        if improvement < 1e-7 * value.abs().max(1e-3) {
            break;
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separable_task_is_learned_and_the_gradient_vanishes() {
        let rows = 60;
        let data: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let class = row % 3;
                let noise = ((row * 37 % 11) as f32 - 5.0) * 0.02;
                [class as f32 + noise, (class * class) as f32 - noise, 7.0 + noise]
            })
            .collect();
        let labels: Vec<u32> = (0..rows).map(|row| row as u32 % 3).collect();
        let features = Tensor::from_vec(data, (rows, 3), &Device::Cpu).unwrap();
        let set = || Features {
            values: features.clone(),
            labels: labels.clone(),
        };
        let options = HeadFit {
            penalties: vec![1e-3],
            iterations: 200,
        };
        let fitted = fit_head(&set(), &set(), 3, &options, |_| ()).unwrap();
        let weight = Tensor::from_slice(&fitted.head.weight, (3, 3), &Device::Cpu).unwrap();
        let bias = Tensor::from_slice(&fitted.head.bias, 3, &Device::Cpu).unwrap();
        let logits = features
            .matmul(&weight.t().unwrap())
            .unwrap()
            .broadcast_add(&bias)
            .unwrap();
        assert_eq!(logits.argmax(1).unwrap().to_vec1::<u32>().unwrap(), labels);

        let scaling = Scaling::of(&features).unwrap();
        let problem = Problem::new(&scaling.apply(&features).unwrap(), &labels, 3).unwrap();
        let weights = minimise(|w| problem.loss(w, 1e-2), vec![0.0; problem.size()], 200).unwrap();
        let (_, gradient) = problem.loss(&weights, 1e-2).unwrap();
        assert!(dot(&gradient, &gradient).sqrt() < 1e-3);
    }
}
