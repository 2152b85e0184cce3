//! Choice of settings on a sequence of other tasks.

use std::path::Path;

use candle_core::Device;
use clr_onnx::Backbone;
use serde::{Deserialize, Serialize};

use super::files::{file_error, parsed, written};
use crate::{
    error::{ContinualError, Result},
    learner::{LearnerOptions, correct},
    metrics::mean,
    registry::{self, Entry, Settings},
    task::{AUGMENTATION, Task},
    task_data::TaskData,
};

/// Name of the trials in a results folder.
pub const TUNING: &str = "tuning.json";

/// The conditions of all trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuningBasis {
    /// Digest of the backbone.
    pub backbone: String,
    /// Names of the tasks, in order.
    pub tasks: Vec<String>,
    /// Digests of the tasks' images.
    pub digests: Vec<String>,
    /// Rows and columns of the input in pixels.
    pub size: [u32; 2],
    /// Largest number of training images of a task.
    pub images: usize,
    /// Passes over a task's training images.
    pub epochs: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Settings that were tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Name of the method.
    pub method: String,
    /// Values of its settings.
    pub settings: Settings,
    /// Mean validation accuracy of all tasks after the last one, or directly after each for plain fine-tuning, in
    /// millionths, so that a file has it exactly; `None` if the loss became infinite.
    pub accuracy: Option<u32>,
}

impl Trial {
    /// Returns the accuracy in per cent, such as `59.9`, or `diverged`.
    pub fn percent(&self) -> String {
        let percent = |accuracy| format!("{:.1}", f64::from(accuracy) / 1e4);
        self.accuracy.map_or_else(|| "diverged".to_owned(), percent)
    }
}

/// All trials of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Their conditions.
    pub basis: TuningBasis,
    /// The trials, in the order in which they ended.
    pub trials: Vec<Trial>,
}

impl Tuning {
    /// Reads the trials of a results folder, if it has some.
    ///
    /// # Errors
    /// [`ContinualError::File`] if the file cannot be read.
    pub fn read(results: &Path) -> Result<Option<Self>> {
        parsed(&results.join(TUNING))
    }

    /// Writes the trials to a results folder, which is created if it does not exist.
    ///
    /// # Errors
    /// [`ContinualError::File`] if the file cannot be written.
    pub fn write(&self, results: &Path) -> Result<()> {
        std::fs::create_dir_all(results).map_err(|source| file_error(results, source))?;
        written(&results.join(TUNING), self)
    }

    /// Returns the learning rate that was chosen for plain fine-tuning.
    pub fn network_rate(&self) -> Option<f64> {
        let all = registry::find("sgd")?.combinations(registry::RATES[0]);
        self.best("sgd", &all)?.get("rate").copied()
    }

    /// Returns the settings that were chosen for a method; `None` if trials are missing.
    pub fn chosen(&self, entry: &Entry) -> Option<Settings> {
        let rate = if entry.rate_of_sgd {
            self.network_rate()?
        } else {
            registry::RATES[0]
        };
        match entry.combinations(rate).as_slice() {
            // Without a choice there is no trial.
            [settings] => Some(settings.clone()),
            several => self.best(entry.name, several).cloned(),
        }
    }

    /// Returns the trial of a method's settings.
    pub fn trial(&self, method: &str, settings: &Settings) -> Option<&Trial> {
        let same = |trial: &&Trial| trial.method == method && trial.settings == *settings;
        self.trials.iter().find(same)
    }

    /// Returns the best settings of a method if all of `combinations` were tried. Of equal ones it is the first.
    pub fn best<'a>(&self, method: &str, combinations: &'a [Settings]) -> Option<&'a Settings> {
        let mut best: Option<(&Settings, Option<u32>)> = None;
        for settings in combinations {
            let accuracy = self.trial(method, settings)?.accuracy;
            if best.is_none_or(|(_, highest)| accuracy > highest) {
                best = Some((settings, accuracy));
            }
        }
        best.map(|(settings, _)| settings)
    }
}

/// Trains a method on a sequence of tasks and returns the mean validation accuracy at its end in millionths, or nothing
/// if the loss becomes infinite.
///
/// For plain fine-tuning, each task is validated directly after it was learned: its rate should learn, not forget little.
///
/// # Errors
/// [`ContinualError`] of the method.
pub fn validation_accuracy(
    entry: &Entry,
    settings: &Settings,
    backbone: &Backbone,
    tasks: &[TaskData],
    seed: u64,
    options: &LearnerOptions,
    device: &Device,
) -> Result<Option<u32>> {
    let classes: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let mut learner = entry.learner(backbone, settings, &classes, device)?;
    let mut accuracies = Vec::new();
    let share = |correct: usize, data: &TaskData| correct as f64 / data.validation.examples().len().max(1) as f64;
    for (index, data) in tasks.iter().enumerate() {
        let task = Task {
            index,
            classes: data.classes.len(),
            train: &data.train,
            seed,
            augmentation: &AUGMENTATION,
        };
        match learner.learn(&task, &data.validation, options, &mut |_, _| ()) {
            Err(ContinualError::Diverged { .. }) => return Ok(None),
            other => other?,
        }
        if entry.name == "sgd" {
            accuracies.push(share(correct(&*learner, index, &data.validation)?, data));
        }
    }
    if accuracies.is_empty() {
        for (index, data) in tasks.iter().enumerate() {
            accuracies.push(share(correct(&*learner, index, &data.validation)?, data));
        }
    }
    Ok(mean(accuracies).map(|accuracy| (1e6 * accuracy).round() as u32))
}
