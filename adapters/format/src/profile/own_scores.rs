//! Scores of a task's own images, which tell how unusual an image is for the task.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Profile;
use crate::{Background, BackgroundId, background::student_t};

/// Degrees of freedom of a task's distribution (Student's t). A Gaussian would take an image that is far from everything
/// for one of the task with the widest distribution.
const FREEDOM: f64 = 10.0;
/// Minimum difference between the median score and a quantile.
const LEAST_SPREAD: f32 = 1e-3;

/// Scores of a task's own validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OwnScores {
    /// Of sketches, without a background.
    Distances {
        /// The median distance from the mean.
        typical: f32,
        /// The distance that 5 % of the images exceed. It is above `typical`.
        limit: f32,
    },
    /// Of coordinates in a background: log-likelihood ratios.
    Ratios(Ratios),
}

impl OwnScores {
    /// Returns the scores against a background; `None` for a profile of sketches.
    #[must_use]
    pub fn ratios(&self) -> Option<&Ratios> {
        match self {
            Self::Distances { .. } => None,
            Self::Ratios(ratios) => Some(ratios),
        }
    }
}

/// Quantiles of the scores of a task's own images against a background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// The background.
    pub background: BackgroundId,
    /// The scores below which the fractions [`Ratios::FRACTIONS`] of the images are, increasing.
    pub quantiles: [f32; Ratios::FRACTIONS.len()],
    /// What the task's own head adds to the score.
    pub head: Option<HeadEnergy>,
}

/// Contribution of the task's head: images to whose classes the head gives little are unusual, even if the backbone
/// finds them ordinary (energy score, Liu et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadEnergy {
    /// The median of `log Σ exp(logit)` over the task's images.
    pub median: f32,
    /// Weight of what an image is below the median, at least 0.
    pub weight: f32,
}

/// Returns the out-of-distribution score of a sketch at `distance`, on a logarithmic scale: 0 is the median (`typical`)
/// and 1 the 95th percentile (`limit`) of the task's validation images.
#[must_use]
pub fn distance_ood_score(distance: f32, typical: f32, limit: f32) -> f32 {
    let log = |value: f32| libm::log(f64::from(value.max(f32::MIN_POSITIVE)));
    let (typical, limit) = (log(typical), log(limit));
    ((log(distance) - typical) / (limit - typical)) as f32
}

impl HeadEnergy {
    /// Weight in units of the standard deviations of score and energy.
    const WEIGHT: f64 = 0.5;

    /// Learns the contribution from scores and logits of a task's own images. Returns `None` without logits, or if one is
    /// not finite.
    fn learn(scores: &[f32], logits: &[Vec<f32>]) -> Option<Self> {
        if logits.is_empty() || logits.len() != scores.len() {
            return None;
        }
        let mut energies: Vec<f32> = logits.iter().map(|logits| energy(logits)).collect();
        let weight = Self::WEIGHT * deviation(scores) / deviation(&energies).max(1e-6);
        energies.sort_by(f32::total_cmp);
        let head = Self {
            median: energies[energies.len() / 2],
            weight: weight as f32,
        };
        (head.median.is_finite() && head.weight.is_finite()).then_some(head)
    }

    /// Returns the contribution to the score of an image with these logits, at most 0.
    #[must_use]
    pub fn score(&self, logits: &[f32]) -> f32 {
        self.weight * (energy(logits) - self.median).min(0.0)
    }
}

/// Returns `log Σ exp(logit)`.
fn energy(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = (logits.iter())
        .map(|&logit| libm::exp(f64::from(logit) - f64::from(highest)))
        .sum();
    (f64::from(highest) + libm::log(sum)) as f32
}

impl Ratios {
    /// The fractions of the quantiles.
    pub const FRACTIONS: [f32; 7] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

    pub(super) const fn new(background: BackgroundId) -> Self {
        Self {
            background,
            quantiles: [0.0; Self::FRACTIONS.len()],
            head: None,
        }
    }

    /// Returns the score below which a fraction of the task's own images are, by interpolation in the logarithm of the
    /// fraction. Fractions outside of [`Ratios::FRACTIONS`] count as the nearest one.
    #[must_use]
    pub fn quantile(&self, fraction: f32) -> f32 {
        let log = |fraction: f32| libm::log(f64::from(fraction.max(f32::MIN_POSITIVE)));
        let upper = Self::FRACTIONS.iter().position(|&known| known >= fraction);
        match upper {
            None => self.quantiles[Self::FRACTIONS.len() - 1],
            Some(0) => self.quantiles[0],
            Some(upper) => {
                let [low, high] = [upper - 1, upper].map(|at| log(Self::FRACTIONS[at]));
                let [from, to] = [upper - 1, upper].map(|at| f64::from(self.quantiles[at]));
                (from + (to - from) * (log(fraction) - low) / (high - low)) as f32
            }
        }
    }

    /// Returns the out-of-distribution score of an image with this score, head included: 0 is the median of the task's
    /// validation images, and 1 the score below which the fraction `false_alarms` of them are.
    #[must_use]
    pub fn ood_score(&self, score: f32, false_alarms: f32) -> f32 {
        (self.quantile(0.5) - score) / self.spread(false_alarms)
    }

    /// Returns the difference of scores that changes [`Ratios::ood_score`] by 1.
    #[must_use]
    pub fn spread(&self, false_alarms: f32) -> f32 {
        (self.quantile(0.5) - self.quantile(false_alarms)).max(LEAST_SPREAD)
    }
}

impl Profile {
    /// Returns whether the profile describes coordinates in this background.
    #[must_use]
    pub fn belongs_to(&self, background: &Background) -> bool {
        let named = self.own_scores.ratios().map(|ratios| ratios.background);
        named == Some(background.id()) && self.dimensions() == background.dimensions()
    }

    /// Returns the score of an image, comparable between tasks with the same background: twice the log-likelihood ratio
    /// of task and background, per dimension. Higher is better. `background` is [`Background::log_density`] of the
    /// image, `distance` is [`Profile::distance`] of its coordinates, and `log_volume` is [`Profile::log_volume`].
    #[must_use]
    pub fn ratio(&self, distance: f32, log_volume: f32, background: f64) -> f32 {
        let dimensions = self.dimensions().max(1) as f64;
        let squares = f64::from(distance) * dimensions;
        let own = student_t(dimensions, FREEDOM, squares) - f64::from(log_volume) * dimensions / 2.0;
        (2.0 * (own - background) / dimensions) as f32
    }

    /// Returns the score ([`Profile::ratio_at`]) of an image with these coordinates `[D]` in `background`.
    #[must_use]
    pub fn score_against(&self, background: &Background, coordinates: &[f32]) -> f32 {
        let background = background.log_density(coordinates);
        self.ratio_at(coordinates, self.log_volume(), background).score
    }

    /// Sets the scores of the task's own images against the profile's background, and the contribution of its head to
    /// them, from the logits of the same images; no contribution if `logits` is empty. Returns `None` for a profile of
    /// sketches, without scores, or if one is not finite.
    #[must_use]
    pub fn with_scores(mut self, mut scores: Vec<f32>, logits: &[Vec<f32>]) -> Option<Self> {
        let OwnScores::Ratios(ratios) = &mut self.own_scores else {
            return None;
        };
        ratios.head = HeadEnergy::learn(&scores, logits);
        if let Some(head) = ratios.head {
            for (score, logits) in scores.iter_mut().zip(logits) {
                *score += head.score(logits);
            }
        }
        scores.sort_by(f32::total_cmp);
        for (quantile, fraction) in ratios.quantiles.iter_mut().zip(Ratios::FRACTIONS) {
            *quantile = order_statistic(&scores, fraction)?;
        }
        let finite = ratios.quantiles.iter().all(|value| value.is_finite());
        finite.then_some(self)
    }
}

/// Returns the value that a new one of the same kind is below with probability `fraction`, from `sorted` values: of `n`
/// values, the k-th has the probability k / (n + 1).
fn order_statistic(sorted: &[f32], fraction: f32) -> Option<f32> {
    let place = (f64::from(fraction) * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, sorted.len().checked_sub(1)? as f64);
    let (below, part) = (place as usize, place - libm::floor(place));
    let above = *sorted.get(below + 1).unwrap_or(&sorted[below]);
    Some(sorted[below] + part as f32 * (above - sorted[below]))
}

fn deviation(values: &[f32]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares: f64 = values
        .iter()
        .map(|&value| (f64::from(value) - mean) * (f64::from(value) - mean))
        .sum();
    libm::sqrt(squares / count)
}
