//! Score of one image for one task, from the task's feature profile.

use clr_adapters::Profile;

/// A profile with what does not change from frame to frame.
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

    /// The score of a sketch of the profile's dimensions.
    pub(crate) fn score(&self, sketch: &[f32]) -> TaskScore {
        let distance = self.profile.distance(sketch);
        TaskScore {
            score: -(distance + self.log_volume),
            strangeness: self.profile.strangeness(distance),
        }
    }
}

/// How well an image fits a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Twice the log-likelihood per dimension, up to a constant: the task with the highest score fits best.
    pub score: f32,
    /// How strange the image is for the task: 0 for the median of its own validation images, 1 for the strangest 5 %
    /// of them, on a logarithmic scale.
    pub strangeness: f32,
}
