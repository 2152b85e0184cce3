//! Choice of settings on a sequence of other tasks.

use candle_core::Device;
use clr_onnx::Backbone;
use serde::{Deserialize, Serialize};

use crate::{
    error::{ContinualError, Result},
    learner::{LearnerOptions, correct},
    metrics::mean,
    registry::{Entry, Settings},
    task::{AUGMENTATION, Task},
    task_data::TaskData,
};

/// Settings that were tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Values of the settings.
    pub settings: Settings,
    /// Mean validation accuracy of all tasks after the last one; `None` if the loss became infinite.
    pub accuracy: Option<f64>,
}

/// The settings of a method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Name of the method.
    pub method: String,
    /// All settings that were tried, in the order of the grid.
    pub tried: Vec<Tried>,
    /// Index of the best one. Of equal ones it is the first.
    pub best: usize,
}

/// Tries all settings of a method on a sequence of tasks and compares the mean validation accuracy at its end. `rate` is
/// that of plain fine-tuning.
///
/// For plain fine-tuning itself, each task is validated directly after it was learned: its rate should learn, not forget
/// little.
///
/// # Errors
/// [`ContinualError`] of the method.
pub fn tune(
    entry: &Entry,
    rate: f64,
    backbone: &Backbone,
    tasks: &[TaskData],
    seed: u64,
    options: &LearnerOptions,
    device: &Device,
) -> Result<Choice> {
    let classes: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let mut tried = Vec::new();
    for settings in entry.combinations(rate) {
        let run = || -> Result<f64> {
            let mut learner = entry.learner(backbone, &settings, &classes, device)?;
            let mut directly = Vec::new();
            let share =
                |correct: usize, data: &TaskData| correct as f64 / data.validation.examples().len().max(1) as f64;
            for (index, data) in tasks.iter().enumerate() {
                let task = Task {
                    index,
                    classes: data.classes.len(),
                    train: &data.train,
                    seed,
                    augmentation: &AUGMENTATION,
                };
                learner.learn(&task, &data.validation, options, &mut |_, _| ())?;
                if entry.name == "sgd" {
                    directly.push(share(correct(&*learner, index, &data.validation)?, data));
                }
            }
            if directly.is_empty() {
                for (index, data) in tasks.iter().enumerate() {
                    directly.push(share(correct(&*learner, index, &data.validation)?, data));
                }
            }
            Ok(mean(directly).unwrap_or_default())
        };
        let accuracy = match run() {
            Ok(accuracy) => Some(accuracy),
            Err(ContinualError::Diverged { .. }) => None,
            Err(error) => return Err(error),
        };
        tried.push(Tried { settings, accuracy });
    }
    let mut best = 0;
    for (index, one) in tried.iter().enumerate() {
        if one.accuracy > tried[best].accuracy {
            best = index;
        }
    }
    Ok(Choice {
        method: entry.name.to_owned(),
        tried,
        best,
    })
}
