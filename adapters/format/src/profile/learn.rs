//! Fitting of a profile: mean and shrunk covariance of sketches, and the inverse of its factor.

use alloc::{vec, vec::Vec};

use super::{Profile, sketch};
use crate::StepSize;

/// Shrinkage: weight of an isotropic covariance with the same trace.
const SHRINKAGE: f64 = 0.2;
/// Minimum variance of a profile, so that it is not singular if all images are equal.
const FLOOR: f64 = 1e-6;
/// Minimum number of training images for a covariance.
const LEAST: usize = 8;
/// Squared distance per dimension that each of the two roundings of a compact file may add.
const ADDED: f64 = 0.01;
/// Minimum ratio of the limit to the typical distance.
const LEAST_SPREAD: f32 = 1.1;

impl Profile {
    /// Fits a profile to the unmodified backbone's pooled features `[F]` of training images, and sets its distances
    /// from those of validation images. Returns `None` for fewer than 8 training images, for no validation image, or if
    /// a number is not finite.
    #[must_use]
    pub fn learn<'a>(
        training: impl IntoIterator<Item = &'a [f32]>,
        validation: impl IntoIterator<Item = &'a [f32]>,
    ) -> Option<Self> {
        let mut training = training.into_iter().peekable();
        let dimensions = training.peek()?.len().min(Self::DIMENSIONS);
        let sketches: Vec<Vec<f32>> = training.map(|features| sketch(features, dimensions)).collect();
        if sketches.len() < LEAST || dimensions == 0 {
            return None;
        }
        let count = sketches.len() as f64;
        let mut mean = vec![0.0_f64; dimensions];
        for sketch in &sketches {
            mean.iter_mut()
                .zip(sketch)
                .for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for sum in &mut mean {
            *sum /= count;
        }
        let factor = inverse(&cholesky(&covariance(&sketches, &mean)));
        let profile = Self {
            mean: mean.iter().map(|&value| value as f32).collect(),
            diagonal: factor
                .iter()
                .filter_map(|row| row.last())
                .map(|&value| value as f32)
                .collect(),
            factor: factor
                .iter()
                .flat_map(|row| &row[..row.len() - 1])
                .map(|&value| value as f32)
                .collect(),
            typical: 0.0,
            limit: 0.0,
        };
        let distances = validation
            .into_iter()
            .map(|features| profile.distance(&sketch(features, dimensions)))
            .collect();
        let vectors = [&profile.mean, &profile.diagonal, &profile.factor];
        let finite = vectors.into_iter().flatten().all(|value| value.is_finite());
        profile.with_distances(distances).filter(|_| finite)
    }

    /// Returns steps of mean and factor whose rounding adds about a hundredth to the distances of the task's images.
    #[must_use]
    pub fn steps(&self) -> [StepSize; 2] {
        let mut below = self.factor.as_slice();
        let rows = self.diagonal.iter().enumerate().map(|(row, &diagonal)| {
            let (left, rest) = below.split_at_checked(row).unwrap_or((below, &[]));
            below = rest;
            left.iter().chain([&diagonal]).map(|&value| f64::from(value)).collect()
        });
        let factor: Triangle = rows.collect();
        let squares = |triangle: &Triangle| triangle.iter().flatten().map(|value| value * value).sum::<f64>();
        let dimensions = self.dimensions().max(1) as f64;
        // The squared error of a whitened sketch is, per dimension, the mean's rounding times `KᵀK`, and the factor's
        // rounding times the variance of the dimensions before. The variances are the squares of `K`'s inverse.
        let (precision, variance) = (squares(&factor) / dimensions, squares(&inverse(&factor)) / dimensions);
        let rounding = 12.0 * ADDED;
        [
            StepSize::at_most(libm::sqrt(rounding / precision)),
            StepSize::at_most(libm::sqrt(2.0 * rounding / (dimensions * variance))),
        ]
    }

    /// Sets `limit` and `typical` from distances of the task's own images that were measured elsewhere. `typical` never
    /// decreases. Returns `None` without distances, or if the limit is not finite.
    #[must_use]
    pub fn with_distances(mut self, mut distances: Vec<f32>) -> Option<Self> {
        distances.sort_by(f32::total_cmp);
        let typical = *distances.get(distances.len() / 2)?;
        self.typical = typical.max(self.typical).max(FLOOR as f32);
        self.limit = distances[(distances.len() - 1) * 95 / 100].max(LEAST_SPREAD * self.typical);
        self.limit.is_finite().then_some(self)
    }
}

/// A lower triangular matrix, row by row.
type Triangle = Vec<Vec<f64>>;

/// Returns the shrunk covariance of `sketches` around `mean`.
fn covariance(sketches: &[Vec<f32>], mean: &[f64]) -> Triangle {
    let mut covariance: Triangle = (0..mean.len()).map(|row| vec![0.0; row + 1]).collect();
    let mut difference = vec![0.0; mean.len()];
    for sketch in sketches {
        for ((difference, &value), mean) in difference.iter_mut().zip(sketch).zip(mean) {
            *difference = f64::from(value) - mean;
        }
        for (row, own) in covariance.iter_mut().zip(&difference) {
            row.iter_mut()
                .zip(&difference)
                .for_each(|(sum, other)| *sum += own * other);
        }
    }
    let count = (sketches.len() - 1) as f64;
    let trace: f64 = covariance.iter().filter_map(|row| row.last()).sum();
    let round = SHRINKAGE * trace / (count * mean.len() as f64) + FLOOR;
    for row in &mut covariance {
        for sum in row.iter_mut() {
            *sum *= (1.0 - SHRINKAGE) / count;
        }
        if let Some(diagonal) = row.last_mut() {
            *diagonal += round;
        }
    }
    covariance
}

/// Cholesky factorisation: returns `L` with `L Lᵀ = matrix`, which must be positive definite.
fn cholesky(matrix: &Triangle) -> Triangle {
    let mut factor: Triangle = Vec::with_capacity(matrix.len());
    for row in matrix {
        let mut new: Vec<f64> = Vec::with_capacity(row.len());
        for (column, &value) in row.iter().enumerate() {
            let above = factor.get(column).unwrap_or(&new);
            let rest = value - new.iter().zip(above).map(|(a, b)| a * b).sum::<f64>();
            new.push(if column + 1 == row.len() {
                libm::sqrt(rest.max(FLOOR * FLOOR))
            } else {
                rest / above[column]
            });
        }
        factor.push(new);
    }
    factor
}

/// Returns the inverse of a lower triangular `factor`, which is lower triangular as well.
fn inverse(factor: &Triangle) -> Triangle {
    let mut inverse: Triangle = Vec::with_capacity(factor.len());
    for (index, row) in factor.iter().enumerate() {
        let diagonal = row[index];
        let mut new: Vec<f64> = (0..index)
            .map(|column| {
                let sum: f64 = (column..index)
                    .map(|middle| row[middle] * inverse[middle][column])
                    .sum();
                -sum / diagonal
            })
            .collect();
        new.push(1.0 / diagonal);
        inverse.push(new);
    }
    inverse
}
