//! Stochastic gradient descent with momentum, and Adam, on vectors of values.

use serde::{Deserialize, Serialize};

use crate::gradients::Vectors;

/// Kind and constants of an optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserKind {
    /// `v ← momentum · v + g + decay · θ; θ ← θ − rate · v` (PyTorch's `SGD`).
    Sgd {
        /// Factor of the velocity.
        momentum: f32,
        /// Weight decay.
        decay: f32,
    },
    /// Adam (Kingma and Ba 2015) with PyTorch's constants.
    Adam,
}

/// An optimiser's state for a number of vectors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Optimiser {
    kind: OptimiserKind,
    steps: u32,
    first: Vectors,
    second: Vectors,
}

impl Optimiser {
    /// Creates an optimiser for vectors of the sizes of `values`.
    pub fn new(kind: OptimiserKind, values: &[Vec<f32>]) -> Self {
        let zeros = || values.iter().map(|values| vec![0.0; values.len()]).collect();
        Self {
            kind,
            steps: 0,
            first: zeros(),
            second: if kind == OptimiserKind::Adam {
                zeros()
            } else {
                Vec::new()
            },
        }
    }

    /// Performs a step. `rates` are one rate per vector.
    pub fn step(&mut self, values: &mut [Vec<f32>], gradients: &[Vec<f32>], rates: &[f32]) {
        self.steps += 1;
        for (index, (values, gradients)) in values.iter_mut().zip(gradients).enumerate() {
            let rate = rates[index];
            match self.kind {
                OptimiserKind::Sgd { momentum, decay } => {
                    let velocity = &mut self.first[index];
                    for ((value, gradient), velocity) in values.iter_mut().zip(gradients).zip(velocity) {
                        *velocity = momentum * *velocity + (gradient + decay * *value);
                        *value -= rate * *velocity;
                    }
                }
                OptimiserKind::Adam => {
                    let correction = |beta: f64| 1.0 - beta.powi(self.steps as i32);
                    let (corrected, root) = (
                        (f64::from(rate) / correction(0.9)) as f32,
                        correction(0.999).sqrt() as f32,
                    );
                    let moments = self.first[index].iter_mut().zip(&mut self.second[index]);
                    for ((value, gradient), (first, second)) in values.iter_mut().zip(gradients).zip(moments) {
                        *first = 0.9 * *first + 0.1 * gradient;
                        *second = 0.999 * *second + 0.001 * gradient * gradient;
                        *value -= corrected * *first / (second.sqrt() / root + 1e-8);
                    }
                }
            }
        }
    }
}
