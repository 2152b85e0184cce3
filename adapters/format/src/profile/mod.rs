//! Feature profile of a task's images, used to select the task of an image.
//!
//! The backbone *without* any adapter maps an image to a point `[D]`: coordinates in the backbone's
//! [`Background`](crate::Background) or, without a background, a [`sketch`] of its pooled features. The profile is a
//! distribution of these points: `mean`, and a lower triangular `K`, where `KᵀK` is the precision matrix. Scoring an
//! image therefore takes one triangular product: `distance = ‖K (point − mean)‖² / D`. Reasons and alternatives:
//! `docs/reference/auto.md`.

mod learn;
mod own_scores;
mod sketch;
mod taught;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use own_scores::{HeadEnergy, OwnScores, Ratios, distance_ood_score};
pub use sketch::sketch;
pub use taught::{RatioScore, TaughtPoints};

use crate::{StepSize, triangle::dot};

/// Distribution of the points of one task's images, and the scores of its own images.
///
/// Each adapter's profile is fitted separately; the device compares all of them. Scores against the same background are
/// comparable, and so are scores of sketches of the same backbone, also between input sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The mean point `[D]`.
    pub mean: Vec<f32>,
    /// The diagonal of `K`, `[D]`, above 0.
    pub diagonal: Vec<f32>,
    /// The elements below the diagonal of `K`, row by row: `[D (D − 1) / 2]`.
    pub factor: Vec<f32>,
    /// Scores of the task's own validation images.
    pub own_scores: OwnScores,
    /// Where the images of classes are that a device was taught; only against a background.
    pub taught: Vec<TaughtPoints>,
}

impl Profile {
    /// Number of dimensions of the profiles that [`Profile::learn`] fits, unless the backbone has fewer features.
    pub const DIMENSIONS: usize = 120;

    /// Returns the number of dimensions of the points, `D`.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// Returns the profile with the nearest multiples of the steps of mean and factor. The diagonal stays above 0.
    #[must_use]
    pub fn rounded(&self, [mean, factor]: [StepSize; 2]) -> Self {
        let least = factor.value(1);
        Self {
            mean: mean.round(&self.mean),
            diagonal: self
                .diagonal
                .iter()
                .map(|&value| factor.nearest(value).max(least))
                .collect(),
            factor: factor.round(&self.factor),
            own_scores: self.own_scores.clone(),
            taught: (self.taught.iter())
                .map(|class| TaughtPoints {
                    mean: mean.round(&class.mean),
                    ..*class
                })
                .collect(),
        }
    }

    /// Returns the distance of a point `[D]` from the task's mean: about 1 for the task's own images, unbounded above.
    ///
    /// The order of summation is fixed, so equal input gives equal bits, whatever other tasks are installed.
    #[must_use]
    pub fn distance(&self, point: &[f32]) -> f32 {
        Self::mean_square(&self.whitened(point))
    }

    fn mean_square(whitened: &[f32]) -> f32 {
        let sum: f64 = (whitened.iter())
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        (sum / whitened.len().max(1) as f64) as f32
    }

    /// Returns the whitened point `[D]`, `K (point − mean)`. Over the task's images, every dimension has mean 0 and a
    /// variance of about 1.
    #[must_use]
    pub fn whitened(&self, point: &[f32]) -> Vec<f32> {
        self.whitened_from(&self.mean, point)
    }

    /// Returns `K (point − mean)` for another mean `[D]`.
    fn whitened_from(&self, mean: &[f32], point: &[f32]) -> Vec<f32> {
        let difference: Vec<f32> = point.iter().zip(mean).map(|(a, b)| a - b).collect();
        let mut rows = self.factor.as_slice();
        let mut whitened = Vec::with_capacity(difference.len());
        for (row, (diagonal, own)) in self.diagonal.iter().zip(&difference).enumerate() {
            let (left, rest) = rows.split_at_checked(row).unwrap_or((rows, &[]));
            rows = rest;
            whitened.push(diagonal * own + dot(left, &difference));
        }
        whitened
    }

    /// Returns the logarithm of the distribution's volume per dimension, `−2 log |K| / D`.
    #[must_use]
    pub fn log_volume(&self) -> f32 {
        let sum: f64 = self.diagonal.iter().map(|&value| libm::log(f64::from(value))).sum();
        (-2.0 * sum / self.dimensions().max(1) as f64) as f32
    }

    /// Returns the score of a sketch at `distance`, comparable between tasks without a background: twice its
    /// log-likelihood per dimension, up to a constant. Higher is better.
    #[must_use]
    pub fn score(&self, distance: f32) -> f32 {
        -(distance + self.log_volume())
    }
}
