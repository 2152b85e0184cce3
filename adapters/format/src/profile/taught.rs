//! Classes that a device was taught: where their images are.
//!
//! A taught class may look unlike the task's other images. Its images are described by a mean of their own, with the
//! covariance of the task times one number. The rest of the profile does not change, so the scores of images that are near
//! the other classes stay the same.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Profile;
use crate::{Background, StepSize, triangle::mean};

/// Limits of the variance, relative to the task's.
const VARIANCE: [f32; 2] = [0.25, 64.0];
/// Fraction of a class's images that may be unusual for the task before the class gets a mean of its own.
const UNUSUAL: f32 = 0.25;
/// Rate of false alarms at which an image counts as unusual.
const UNUSUAL_RATE: f32 = 0.05;

/// Points of the images of a taught class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaughtPoints {
    /// The class.
    pub class: u32,
    /// Variance of the points, relative to the task's covariance, above 0.
    pub variance: f32,
    /// What the median score of the task's images exceeds that of the class's by. The class may look so varied that all of
    /// its images would be unusual for the task.
    pub shift: f32,
    /// The mean point `[D]`.
    pub mean: Vec<f32>,
}

/// Scores of an image against a background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioScore {
    /// The score by which tasks are compared: the highest of the task's and the taught classes'.
    pub score: f32,
    /// The score that tells how usual the image is, for [`Ratios::ood_score`](crate::Ratios::ood_score): the highest after
    /// the shifts of the taught classes.
    pub usual: f32,
}

impl Profile {
    /// Returns the scores of an image with these coordinates `[D]`. `background` is
    /// [`Background::log_density`] of the image, and `log_volume` is [`Profile::log_volume`].
    #[must_use]
    pub fn ratio_at(&self, coordinates: &[f32], log_volume: f32, background: f64) -> RatioScore {
        let own = self.ratio(self.distance(coordinates), log_volume, background);
        let mut best = RatioScore { score: own, usual: own };
        for class in &self.taught {
            let score = self.ratio_of_class(class, coordinates, log_volume, background);
            best.score = best.score.max(score);
            best.usual = best.usual.max(score + class.shift);
        }
        best
    }

    fn ratio_of_class(&self, class: &TaughtPoints, coordinates: &[f32], log_volume: f32, background: f64) -> f32 {
        let distance = Self::mean_square(&self.whitened_from(&class.mean, coordinates)) / class.variance;
        self.ratio(distance, log_volume + ln(class.variance), background)
    }

    /// Describes the images of a taught class with these coordinates `[D]`, if many of them are unusual for the task; what
    /// is known of this class from an earlier teaching is forgotten. The mean is a multiple of `step`. Returns whether the
    /// profile changed.
    pub fn teach(&mut self, class: u32, background: &Background, coordinates: &[Vec<f32>], step: StepSize) -> bool {
        let Some(ratios) = self.own_scores.ratios() else {
            return false;
        };
        let before = self.taught.len();
        self.taught.retain(|taught| taught.class != class);
        let forgotten = self.taught.len() < before;
        let log_volume = self.log_volume();
        let usual = |point: &Vec<f32>| self.ratio_at(point, log_volume, background.log_density(point)).usual;
        let unusual = coordinates
            .iter()
            .filter(|point| ratios.ood_score(usual(point), UNUSUAL_RATE) > 1.0);
        let count = coordinates.len();
        if count == 0 || unusual.count() as f32 <= UNUSUAL * count as f32 {
            return forgotten;
        }
        let mean: Vec<f32> = (mean(coordinates).into_iter())
            .map(|value| step.nearest(value as f32))
            .collect();
        let squares = coordinates
            .iter()
            .map(|point| f64::from(Self::mean_square(&self.whitened_from(&mean, point))));
        // The mean is nearer to its own images than to others.
        let freedom = (count as f64 - 1.0).max(0.5);
        let variance = (squares.sum::<f64>() / freedom) as f32;
        if !variance.is_finite() {
            return forgotten;
        }
        let variance = variance.clamp(VARIANCE[0], VARIANCE[1]);
        let densities: f64 = coordinates.iter().map(|point| background.log_density(point)).sum();
        // A new image differs from the mean of `count` others by this.
        let distance = 1.0 + 1.0 / count as f32;
        let typical = self.ratio(distance, log_volume + ln(variance), densities / count as f64);
        let shift = ratios.quantile(0.5) - typical;
        self.taught.push(TaughtPoints {
            class,
            variance,
            shift,
            mean,
        });
        true
    }
}

fn ln(value: f32) -> f32 {
    libm::log(f64::from(value)) as f32
}
