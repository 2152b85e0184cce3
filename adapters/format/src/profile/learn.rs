//! Fitting of a profile: mean and covariance of points, and the inverse of its factor.

use alloc::vec::Vec;

use super::{OwnScores, Profile, Ratios, sketch};
use crate::{
    Background, StepSize,
    triangle::{Triangle, cholesky, covariance, inverse, mean, shrunk, trace},
};

/// Shrinkage of sketches: weight of an isotropic covariance with the same trace.
const SHRINKAGE: f64 = 0.2;
/// Minimum variance of a profile, so that it is not singular if all images are equal.
const FLOOR: f64 = 1e-6;
/// Minimum number of training images for a covariance.
const LEAST: usize = 8;
/// Squared distance per dimension that each of the two roundings of a compact file may add, for sketches and for
/// coordinates in a background. The latter are more robust (docs/results/2026-11-30-strangers.md).
const ADDED: [f64; 2] = [0.01, 0.04];
/// Minimum ratio of the limit to the typical distance.
const LEAST_SPREAD: f32 = 1.1;
/// Weights of the task's own covariance, of the background's covariance within kinds of images, and of an isotropic one.
/// All have the same trace.
const WEIGHTS: [f64; 3] = [0.75, 0.2, 0.05];
/// Number of training images from which on the task's own covariance has its full weight.
const ENOUGH: f64 = 200.0;

impl Profile {
    /// Fits a profile without a background: to sketches of the unmodified backbone's pooled features `[F]` of training
    /// images. Sets its distances from those of validation images. Returns `None` for fewer than 8 training images, for
    /// no validation image, or if a number is not finite.
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
        let mean = mean(&sketches);
        let own = covariance(&sketches, &mean);
        let round = SHRINKAGE * trace(&own) / dimensions as f64 + FLOOR;
        let profile = Self::gaussian(&mean, &shrunk(own, 1.0 - SHRINKAGE, round));
        let distances = validation
            .into_iter()
            .map(|features| profile.distance(&sketch(features, dimensions)))
            .collect();
        profile.with_distances(distances).filter(Self::is_finite)
    }

    /// Fits a profile to the coordinates `[D]` of training images in a background. It has no scores of its own yet
    /// ([`Profile::with_scores`]). Returns `None` for fewer than 8 images, or if a number is not finite.
    #[must_use]
    pub fn learn_against(background: &Background, training: &[Vec<f32>]) -> Option<Self> {
        if training.len() < LEAST {
            return None;
        }
        let mean = mean(training);
        let own = covariance(training, &mean);
        let total = trace(&own);
        let weight = WEIGHTS[0] * (training.len() as f64 / ENOUGH).min(1.0);
        let others = WEIGHTS[0] - weight + WEIGHTS[1];
        let round = WEIGHTS[2] * total / mean.len() as f64 + FLOOR;
        let mut mixed = shrunk(own, weight, round);
        let within = background.within_covariance();
        let scale = others * total / trace(&within).max(FLOOR);
        for (row, other) in mixed.iter_mut().zip(&within) {
            row.iter_mut()
                .zip(other)
                .for_each(|(value, other)| *value += scale * other);
        }
        let mut profile = Self::gaussian(&mean, &mixed);
        profile.own_scores = OwnScores::Ratios(Ratios::new(background.id()));
        Some(profile).filter(Self::is_finite)
    }

    fn gaussian(mean: &[f64], covariance: &Triangle) -> Self {
        let factor = inverse(&cholesky(covariance));
        let diagonal = factor.iter().filter_map(|row| row.last());
        let below = factor.iter().flat_map(|row| &row[..row.len() - 1]);
        Self {
            mean: mean.iter().map(|&value| value as f32).collect(),
            diagonal: diagonal.map(|&value| value as f32).collect(),
            factor: below.map(|&value| value as f32).collect(),
            own_scores: OwnScores::Distances {
                typical: 0.0,
                limit: 0.0,
            },
            taught: Vec::new(),
        }
    }

    fn is_finite(&self) -> bool {
        let vectors = [&self.mean, &self.diagonal, &self.factor];
        vectors.into_iter().flatten().all(|value| value.is_finite())
    }

    /// Returns steps of mean and factor whose rounding adds a few hundredths to the distances of the task's images.
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
        let rounding = match self.own_scores {
            OwnScores::Distances { .. } => 12.0 * ADDED[0],
            OwnScores::Ratios(_) => 12.0 * ADDED[1],
        };
        [
            StepSize::at_most(libm::sqrt(rounding / precision)),
            StepSize::at_most(libm::sqrt(2.0 * rounding / (dimensions * variance))),
        ]
    }

    /// Sets the distances of the task's own images, which were measured elsewhere. The typical one never decreases.
    /// Returns `None` without distances, or if the limit is not finite.
    #[must_use]
    pub fn with_distances(mut self, mut distances: Vec<f32>) -> Option<Self> {
        distances.sort_by(f32::total_cmp);
        let before = match self.own_scores {
            OwnScores::Distances { typical, .. } => typical,
            OwnScores::Ratios(_) => 0.0,
        };
        let typical = distances.get(distances.len() / 2)?.max(before).max(FLOOR as f32);
        let limit = distances[(distances.len() - 1) * 95 / 100].max(LEAST_SPREAD * typical);
        self.own_scores = OwnScores::Distances { typical, limit };
        limit.is_finite().then_some(self)
    }
}
