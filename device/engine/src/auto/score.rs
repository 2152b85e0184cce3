//! Scores of one image for several tasks.

use std::sync::Arc;

use clr_adapters::Preprocessing;

use crate::{EngineError, ImagePass, ResidentAdapter, TaskScore, scorer::Point};

/// Options of scoring.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScoreOptions {
    /// Fraction of a task's own images whose [`TaskScore::ood_score`] may exceed 1, 0.005 to 0.5. Profiles without a
    /// background only know 0.05.
    pub false_alarms: f32,
    /// Number of tasks, those with the highest scores, whose heads contribute to the out-of-distribution score. Each
    /// costs a classification, which the pass keeps.
    pub heads: usize,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            false_alarms: 0.05,
            heads: 1,
        }
    }
}

impl ScoreOptions {
    /// Sets the rate of false alarms.
    #[must_use]
    pub fn with_false_alarms(mut self, false_alarms: f32) -> Self {
        self.false_alarms = false_alarms;
        self
    }

    /// Sets the number of tasks whose heads contribute.
    #[must_use]
    pub fn with_heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }
}

/// Scores an image for each of `tasks`. The score is `None` for a task without a profile, or whose profile belongs to
/// another background than the backbone's. A task's `score` is bit-identical, whatever other tasks are given.
///
/// Runs the backbone once for each distinct preprocessing among the tasks with a profile. Each task then takes a few
/// microseconds. The tasks with the highest scores are classified with if `may_classify` allows it, and their heads
/// contribute to the `ood_score`. A head whose logits cannot be computed contributes nothing.
///
/// # Errors
/// [`EngineError::Feature`] if a feature of the unmodified backbone is NaN or infinite; another [`EngineError`] if the
/// features cannot be computed.
pub fn score_tasks(
    pass: &mut ImagePass<'_>,
    tasks: &[Arc<ResidentAdapter>],
    options: ScoreOptions,
    mut may_classify: impl FnMut(&Arc<ResidentAdapter>) -> bool,
) -> Result<Vec<Option<TaskScore>>, EngineError> {
    let background = pass.background();
    let mut points: Vec<(&Preprocessing, usize, Point)> = Vec::new();
    let mut scores = Vec::with_capacity(tasks.len());
    for task in tasks {
        let Some(scorer) = task
            .profile
            .as_ref()
            .filter(|scorer| scorer.fits(background.as_deref()))
        else {
            scores.push(None);
            continue;
        };
        let (preprocessing, dimensions) = (task.preprocessing(), scorer.profile().dimensions());
        let known = points
            .iter()
            .position(|(other, of, _)| *other == preprocessing && *of == dimensions);
        let at = if let Some(at) = known {
            at
        } else {
            pass.prepare(preprocessing, tasks)?;
            let point = match &background {
                Some(background) => {
                    let statistics = finite(pass.block_statistics(preprocessing)?)?;
                    if statistics.is_empty() {
                        scores.push(None);
                        continue;
                    }
                    Point::coordinates(statistics, background)
                }
                None => Point::sketch(finite(pass.backbone_features(preprocessing)?)?, dimensions),
            };
            points.push((preprocessing, dimensions, point));
            points.len() - 1
        };
        scores.push(Some(scorer.score(&points[at].2, options.false_alarms)));
    }
    let mut ranking: Vec<usize> = (0..tasks.len()).filter(|&task| scores[task].is_some()).collect();
    let score = |task: usize| scores[task].map_or(f32::NEG_INFINITY, |own| own.score);
    let name = |task: usize| tasks[task].task();
    ranking.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(name(a).cmp(name(b))));
    for task in ranking.into_iter().take(options.heads) {
        let ratios = tasks[task].profile().and_then(|profile| profile.own_scores.ratios());
        let Some((ratios, head)) = ratios.and_then(|ratios| Some((ratios, ratios.head?))) else {
            continue;
        };
        if let Some(own) = &mut scores[task]
            && may_classify(&tasks[task])
            && let Ok(classification) = pass.classify_and_keep(&tasks[task])
        {
            own.ood_score -= head.score(classification.logits()) / ratios.spread(options.false_alarms);
        }
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
