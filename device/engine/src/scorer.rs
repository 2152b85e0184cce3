//! Scores of one image for one task, from the task's feature profile.

use clr_adapters::{Background, OwnScores, Profile, distance_ood_score, sketch};

/// A profile with its precomputed log-volume.
#[derive(Debug)]
pub(crate) struct Scorer {
    profile: Profile,
    log_volume: f32,
}

/// An image as the profiles of one kind see it.
pub(crate) enum Point {
    /// A sketch of the features `[D]`.
    Sketch(Vec<f32>),
    /// Coordinates `[D]` in the background, and the logarithm of its density there.
    Coordinates(Vec<f32>, f64),
}

impl Point {
    pub(crate) fn sketch(features: &[f32], dimensions: usize) -> Self {
        Self::Sketch(sketch(features, dimensions))
    }

    pub(crate) fn coordinates(statistics: &[f32], background: &Background) -> Self {
        let coordinates = background.coordinates(statistics);
        let density = background.log_density(&coordinates);
        Self::Coordinates(coordinates, density)
    }
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

    /// Returns whether the profile can score images of a backbone with this background.
    pub(crate) fn fits(&self, background: Option<&Background>) -> bool {
        match background {
            Some(background) => self.profile.belongs_to(background),
            None => self.profile.own_scores.ratios().is_none(),
        }
    }

    /// Returns the score of a point, without the head's contribution. The profile must fit the kind of point.
    pub(crate) fn score(&self, point: &Point, false_alarms: f32) -> TaskScore {
        let (Point::Sketch(values) | Point::Coordinates(values, _)) = point;
        match (&self.profile.own_scores, point) {
            (OwnScores::Ratios(ratios), Point::Coordinates(_, density)) => {
                let scores = self.profile.ratio_at(values, self.log_volume, *density);
                TaskScore {
                    score: scores.score,
                    ood_score: ratios.ood_score(scores.usual, false_alarms),
                }
            }
            (OwnScores::Distances { typical, limit }, _) => {
                let distance = self.profile.distance(values);
                TaskScore {
                    score: -(distance + self.log_volume),
                    ood_score: distance_ood_score(distance, *typical, *limit),
                }
            }
            (OwnScores::Ratios(_), Point::Sketch(_)) => TaskScore {
                score: f32::NEG_INFINITY,
                ood_score: f32::INFINITY,
            },
        }
    }
}

/// Measures of how well an image fits a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Twice the logarithm of the likelihood per dimension: relative to the backbone's background or, without a
    /// background, up to a constant. The task with the highest score fits best.
    pub score: f32,
    /// Out-of-distribution score: 0 is the median of the task's validation images, and 1 what the fraction
    /// [`ScoreOptions::false_alarms`](crate::ScoreOptions::false_alarms) of them exceed.
    pub ood_score: f32,
}
