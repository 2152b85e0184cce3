//! How well one picture fits each of several tasks.

use std::sync::Arc;

use clr_adapters::{Preprocessing, Profile, sketch};
use clr_onnx::ImageView;

use crate::{Engine, EngineError, ResidentAdapter};

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
    fn score(&self, sketch: &[f32]) -> TaskScore {
        let distance = self.profile.distance(sketch);
        TaskScore {
            score: -(distance + self.log_volume),
            strangeness: self.profile.strangeness(distance),
        }
    }
}

/// How well a picture fits a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Twice the log-likelihood per dimension, up to a constant: the task with the highest score fits best.
    pub score: f32,
    /// How strange the picture is for the task: 0 for the median of its own validation pictures, 1 for the strangest 5 %
    /// of them, on a logarithmic scale.
    pub strangeness: f32,
}

/// Scores a picture for each of `tasks`; `None` for a task without a profile. A task's score does not depend on which
/// others there are, to the bit.
///
/// Runs the backbone once for each distinct preprocessing among the tasks with a profile, then a few microseconds per task.
pub fn score_tasks<'a>(
    engine: &Engine,
    tasks: &[Arc<ResidentAdapter>],
    picture: impl Into<ImageView<'a>>,
) -> Result<Vec<Option<TaskScore>>, EngineError> {
    let picture = picture.into();
    let mut features: Vec<(&Preprocessing, Vec<f32>)> = Vec::new();
    let mut sketches: Vec<(&Preprocessing, usize, Vec<f32>)> = Vec::new();
    let mut scores = Vec::with_capacity(tasks.len());
    for task in tasks {
        let Some(scorer) = &task.profile else {
            scores.push(None);
            continue;
        };
        let (preprocessing, dimensions) = (task.preprocessing(), scorer.profile.dimensions());
        let known = sketches
            .iter()
            .find(|(other, of, _)| *other == preprocessing && *of == dimensions);
        if let Some((_, _, sketch)) = known {
            scores.push(Some(scorer.score(sketch)));
            continue;
        }
        let known = features.iter().position(|(other, _)| *other == preprocessing);
        let at = if let Some(at) = known {
            at
        } else {
            features.push((
                preprocessing,
                finite(engine.backbone_features(preprocessing, picture)?)?,
            ));
            features.len() - 1
        };
        let sketch = sketch(&features[at].1, dimensions);
        scores.push(Some(scorer.score(&sketch)));
        sketches.push((preprocessing, dimensions, sketch));
    }
    Ok(scores)
}

fn finite(features: Vec<f32>) -> Result<Vec<f32>, EngineError> {
    match features.iter().position(|value| !value.is_finite()) {
        Some(feature) => Err(EngineError::Feature {
            feature,
            value: features[feature],
        }),
        None => Ok(features),
    }
}
