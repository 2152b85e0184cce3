//! Scores of one image for one task, from the task's feature profile.

use clr_adapters::Profile;

/// A profile with its precomputed log-volume.
#[derive(Debug)]
pub(crate) struct Scorer {
    profile: Profile,
    log_volume: f32,
}

impl Scorer {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            log_volume: profile.log_volume(),
            profile,
        }
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Returns the score of a sketch `[D]`, which must have the profile's dimensions.
    pub(crate) fn score(&self, sketch: &[f32]) -> TaskScore {
        let distance = self.profile.distance(sketch);
        TaskScore {
            score: -(distance + self.log_volume),
            ood_score: self.profile.ood_score(distance),
        }
    }
}

/// Measures of how well an image fits a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Twice the log-likelihood per dimension, up to a constant. The task with the highest score fits best.
    pub score: f32,
    /// Out-of-distribution score, on a logarithmic scale: 0 is the median and 1 the 95th percentile of the task's
    /// validation images.
    pub ood_score: f32,
}
