//! Scores of one image for several tasks.

use std::sync::Arc;

use clr_adapters::{Preprocessing, sketch};

use crate::{EngineError, ImagePass, ResidentAdapter, TaskScore};

/// Scores an image for each of `tasks`. The score is `None` for a task without a profile. A task's score is
/// bit-identical, whatever other tasks are given.
///
/// Runs the backbone once for each distinct preprocessing among the tasks with a profile. Each task then takes a few
/// microseconds.
///
/// # Errors
/// [`EngineError::Feature`] if a feature of the unmodified backbone is NaN or infinite; another [`EngineError`] if the
/// features cannot be computed.
pub fn score_tasks(
    pass: &mut ImagePass<'_>,
    tasks: &[Arc<ResidentAdapter>],
) -> Result<Vec<Option<TaskScore>>, EngineError> {
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
        let sketch = sketch(finite(pass.backbone_features(preprocessing)?)?, dimensions);
        scores.push(Some(scorer.score(&sketch)));
        sketches.push((preprocessing, dimensions, sketch));
    }
    Ok(scores)
}

fn finite(features: &[f32]) -> Result<&[f32], EngineError> {
    match features.iter().position(|value| !value.is_finite()) {
        Some(feature) => Err(EngineError::Feature {
            feature,
            value: features[feature],
        }),
        None => Ok(features),
    }
}
