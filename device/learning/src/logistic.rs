//! Logistic regression of the head on frozen features, by L-BFGS.
//!
//! The regression is multinomial with an L2 penalty (Liu and Nocedal 1989). The problem is convex, so the result
//! depends only on the data and the penalty.

use clr_adapters::Head;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    error::{LearningError, Result},
    lbfgs::minimise,
    loss::log_softmax,
};

/// Options of the head's logistic regression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogisticOptions {
    /// Penalties to compare, strongest first. The one with the lowest validation loss is used. The unit refers to
    /// features scaled to a mean variance of one.
    pub penalties: Vec<f64>,
    /// Maximum number of iterations per penalty.
    pub iterations: usize,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self {
            penalties: vec![3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4],
            iterations: 60,
        }
    }
}

impl LogisticOptions {
    /// Sets the penalties to compare, strongest first.
    #[must_use]
    pub fn with_penalties(mut self, penalties: Vec<f64>) -> Self {
        self.penalties = penalties;
        self
    }

    /// Sets the maximum number of iterations for each penalty.
    #[must_use]
    pub fn with_iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }
}

/// Features `[N, F]` with classes.
#[derive(Clone, Debug, Default)]
pub struct LabelledFeatures {
    /// `[F]` of each image.
    pub features: Vec<Vec<f32>>,
    /// The class of each image.
    pub labels: Vec<u32>,
}

/// The chosen head.
#[derive(Clone, Debug)]
pub struct FittedHead {
    /// Head for unscaled features.
    pub head: Head,
    /// The penalty with the least validation loss.
    pub penalty: f64,
}

/// Fits a head to `train` for each penalty, each starting from the previous one, and returns the head with the lowest
/// cross-entropy on `validation`. `progress` receives the number of finished penalties.
///
/// # Errors
/// [`LearningError::Mismatch`] if features have different lengths, or a label is not below `classes`.
pub fn fit_head(
    train: &LabelledFeatures,
    validation: &LabelledFeatures,
    classes: usize,
    options: &LogisticOptions,
    mut progress: impl FnMut(usize),
) -> Result<FittedHead> {
    let scaling = Scaling::of(train);
    let problem = Problem::new(train, &scaling, classes)?;
    let tested = Problem::new(validation, &scaling, classes)?;
    let mut weights = vec![0.0_f32; problem.size()];
    let mut best: Option<(f64, Vec<f32>, f64)> = None;
    for (index, &penalty) in options.penalties.iter().enumerate() {
        weights = minimise(|weights| problem.loss(weights, penalty), weights, options.iterations);
        let loss = tested.loss(&weights, 0.0).0;
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

/// Scaling of features: they are centred, and all are divided by the same number, so that penalties are comparable
/// between backbones.
struct Scaling {
    mean: Vec<f32>,
    deviation: f32,
}

impl Scaling {
    fn of(set: &LabelledFeatures) -> Self {
        let count = set.features.len().max(1) as f64;
        let mut mean = vec![0.0_f64; set.features.first().map_or(0, Vec::len)];
        for row in &set.features {
            mean.iter_mut()
                .zip(row)
                .for_each(|(mean, &x)| *mean += f64::from(x) / count);
        }
        let squares = |row: &Vec<f32>| {
            row.iter()
                .zip(&mean)
                .map(|(&x, mean)| (f64::from(x) - mean).powi(2))
                .sum::<f64>()
        };
        let total: f64 = set.features.iter().map(squares).sum();
        let variance = total / (count * mean.len().max(1) as f64);
        Self {
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
            deviation: (variance.sqrt() as f32).max(1e-12),
        }
    }

    /// Returns the head on unscaled features.
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
    /// Scaled, `[N, F]`.
    values: Vec<f32>,
    features: usize,
    labels: Vec<u32>,
    classes: usize,
}

/// Number of rows or columns of a product per thread. It is fixed, so that sums do not depend on the number of threads.
const BLOCK: usize = 128;

impl Problem {
    fn new(set: &LabelledFeatures, scaling: &Scaling, classes: usize) -> Result<Self> {
        let features = scaling.mean.len();
        let mut values = Vec::with_capacity(set.features.len() * features);
        for row in &set.features {
            if row.len() != features {
                return Err(LearningError::mismatch("features of an image", features, row.len()));
            }
            values.extend(
                row.iter()
                    .zip(&scaling.mean)
                    .map(|(x, mean)| (x - mean) / scaling.deviation),
            );
        }
        if set.labels.len() != set.features.len() {
            return Err(LearningError::mismatch("labels", set.features.len(), set.labels.len()));
        }
        if let Some(label) = set.labels.iter().find(|&&label| label as usize >= classes) {
            return Err(LearningError::mismatch("a label", format!("below {classes}"), label));
        }
        Ok(Self {
            values,
            features,
            labels: set.labels.clone(),
            classes,
        })
    }

    fn size(&self) -> usize {
        self.classes * (self.features + 1)
    }

    /// Returns mean cross-entropy + penalty / 2 · ‖W‖², and its gradient. `weights` contains W `[K, F]` and then the
    /// bias `[K]`.
    fn loss(&self, weights: &[f32], penalty: f64) -> (f64, Vec<f32>) {
        let (n, f, k) = (self.labels.len(), self.features, self.classes);
        let (weight, bias) = weights.split_at(k * f);
        let (x, w) = (view(&self.values, [n, f]), view(weight, [k, f]));
        // First the logits, then the residuals: softmax minus target, divided by N.
        let mut residual = vec![0.0_f32; n * k];
        let entropies: Vec<f64> = (residual.par_chunks_mut(BLOCK * k.max(1)).enumerate())
            .map(|(block, residual)| {
                let (first, rows) = (block * BLOCK, residual.len() / k.max(1));
                let mut logits = view_mut(residual, [rows, k]);
                let product = x.slice_axis(Axis(0), Slice::from(first..first + rows)).dot(&w.t());
                logits.assign(&product);
                let mut entropy = 0.0;
                for (row, &label) in residual.chunks_exact_mut(k).zip(&self.labels[first..]) {
                    row.iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
                    let log = log_softmax(row, 1.0);
                    entropy -= log[label as usize];
                    row.iter_mut()
                        .zip(log)
                        .for_each(|(value, log)| *value = log.exp() as f32);
                    row[label as usize] -= 1.0;
                    for value in row {
                        *value /= n as f32;
                    }
                }
                entropy
            })
            .collect();
        let entropy = entropies.iter().sum::<f64>() / n as f64;
        let square: f64 = weight.iter().map(|&value| f64::from(value).powi(2)).sum();
        let r = view(&residual, [n, k]);
        let columns: Vec<ndarray::Array2<f32>> = (0..f.div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| {
                let columns = block * BLOCK..(block * BLOCK + BLOCK).min(f);
                r.t().dot(&x.slice_axis(Axis(1), Slice::from(columns)))
            })
            .collect();
        let mut gradient = Vec::with_capacity(self.size());
        for class in 0..k {
            for columns in &columns {
                gradient.extend(columns.row(class));
            }
        }
        (gradient.iter_mut().zip(weight)).for_each(|(gradient, weight)| *gradient += penalty as f32 * weight);
        gradient.extend(r.sum_axis(Axis(0)));
        (entropy + 0.5 * penalty * square, gradient)
    }
}

/// Views values as a matrix.
///
/// # Panics
/// If the number of values does not match the shape.
fn view(values: &[f32], shape: [usize; 2]) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape(shape, values).expect("the shape has as many values")
}

/// Views values as a mutable matrix.
///
/// # Panics
/// If the number of values does not match the shape.
fn view_mut(values: &mut [f32], shape: [usize; 2]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape(shape, values).expect("the shape has as many values")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{argmax, classifier, lbfgs::dot};

    fn set(rows: usize) -> LabelledFeatures {
        let features = |row: usize| {
            let class = row % 3;
            let noise = ((row * 37 % 11) as f32 - 5.0) * 0.02;
            vec![class as f32 + noise, (class * class) as f32 - noise, 7.0 + noise]
        };
        LabelledFeatures {
            features: (0..rows).map(features).collect(),
            labels: (0..rows).map(|row| row as u32 % 3).collect(),
        }
    }

    #[test]
    fn a_separable_task_is_learned_and_the_gradient_vanishes() {
        let set = set(60);
        let options = LogisticOptions {
            penalties: vec![1e-3],
            iterations: 200,
        };
        let Head { weight, bias, .. } = fit_head(&set, &set, 3, &options, |_| ()).unwrap().head;
        for (features, &label) in set.features.iter().zip(&set.labels) {
            assert_eq!(argmax(&classifier::logits(&weight, &bias, features)), label as usize);
        }

        let problem = Problem::new(&set, &Scaling::of(&set), 3).unwrap();
        let weights = minimise(|w| problem.loss(w, 1e-2), vec![0.0; problem.size()], 200);
        let (_, gradient) = problem.loss(&weights, 1e-2);
        assert!(dot(&gradient, &gradient).sqrt() < 1e-3);
    }

    #[test]
    fn the_gradient_is_a_finite_difference_and_the_same_for_any_number_of_threads() {
        // More rows than one thread processes.
        let set = set(3 * BLOCK + 7);
        let problem = Problem::new(&set, &Scaling::of(&set), 3).unwrap();
        let weights: Vec<f32> = (0..problem.size())
            .map(|index| (index * 7 % 5) as f32 / 4.0 - 0.5)
            .collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| problem.loss(&weights, 0.3))
        };
        let (loss, gradient) = run(1);
        assert_eq!(run(3), (loss, gradient.clone()));
        for (index, &got) in gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut moved = weights.clone();
                moved[index] += step;
                problem.loss(&moved, 0.3).0
            };
            let want = ((at(1e-2) - at(-1e-2)) / 2e-2) as f32;
            assert!((got - want).abs() < 1e-3, "{index}: {got} {want}");
        }
    }

    #[test]
    fn mismatched_labels_and_features_are_reported() {
        let fails = |set: &LabelledFeatures| {
            let error = fit_head(set, &self::set(6), 3, &LogisticOptions::default(), |_| ()).unwrap_err();
            error.to_string()
        };
        let mut wrong = set(6);
        wrong.labels[4] = 3;
        assert_eq!(fails(&wrong), "a label: expected below 3, got 3");
        let mut wrong = set(6);
        wrong.features[5].pop();
        assert_eq!(fails(&wrong), "features of an image: expected 3, got 2");
    }
}
