//! Scores of one image for several tasks.

use std::sync::Arc;

use clr_adapters::{Preprocessing, sketch};
use clr_onnx::ImageView;

use crate::{Engine, EngineError, ResidentAdapter, TaskScore};

/// Scores an image for each of `tasks`; `None` for a task without a profile. A task's score is bit-identical whatever
/// other tasks are given.
///
/// Runs the backbone once for each distinct preprocessing among the tasks with a profile. Each task then takes a few
/// microseconds.
pub fn score_tasks<'a>(
    engine: &Engine,
    tasks: &[Arc<ResidentAdapter>],
    image: impl Into<ImageView<'a>>,
) -> Result<Vec<Option<TaskScore>>, EngineError> {
    let image = image.into();
    let mut features: Vec<(&Preprocessing, Vec<f32>)> = Vec::new();
    let mut sketches: Vec<(&Preprocessing, usize, Vec<f32>)> = Vec::new();
    let mut scores = Vec::with_capacity(tasks.len());
    for task in tasks {
        let Some(scorer) = &task.profile else {
            scores.push(None);
            continue;
        };
        let (preprocessing, dimensions) = (task.preprocessing(), scorer.profile().dimensions());
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
            features.push((preprocessing, finite(engine.backbone_features(preprocessing, image)?)?));
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
