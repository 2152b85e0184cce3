//! Choice of settings on other tasks.

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use candle_core::Device;
use clr_continual::{
    ImageLimits, LearnerOptions, TaskData,
    registry::{Entry, Settings, find},
    run::{Plan, TUNING, Trial, Tuning, TuningBasis, validation_accuracy},
};
use clr_onnx::Backbone;
use indicatif::ProgressBar;

use super::{args::RunArgs, folders::absolute, parallel::in_parallel};
use crate::commands::Context;

/// Seed of the sequence on which settings are chosen.
const TUNING_SEED: u64 = 100;
/// Maximum number of training images of a task on which settings are chosen.
const TUNING_IMAGES: usize = 300;

/// Returns the trials in the output folder. With `--tune`, those that are missing are made first.
pub(super) fn tuned(
    args: &RunArgs,
    entries: &[&'static Entry],
    plan: &Plan,
    backbone: &Backbone,
    context: &Context<'_>,
) -> anyhow::Result<Option<Tuning>> {
    let known = Tuning::read(&args.output)?;
    if args.tune.is_empty() {
        return Ok(known);
    }
    let (basis, tasks) = basis(args, plan, backbone)?;
    if let Some(known) = &known {
        anyhow::ensure!(
            known.basis == basis,
            "'{}' has settings for another backbone, other tasks or sizes\nhint: use another output folder",
            args.output.join(TUNING).display()
        );
    }
    let trials = known.map(|known| known.trials).unwrap_or_default();
    let trials = Trials {
        plan,
        backbone,
        tasks: &tasks,
        parallel: args.jobs as usize,
        results: &args.output,
        tuning: Mutex::new(Tuning { basis, trials }),
    };
    // The learning rate of plain fine-tuning comes first, because others use it.
    let sgd = find("sgd").filter(|_| entries.iter().any(|entry| entry.rate_of_sgd || entry.name == "sgd"));
    let others = entries.iter().copied().filter(|entry| entry.name != "sgd");
    trials.run(&sgd.into_iter().collect::<Vec<_>>(), context)?;
    trials.run(&others.collect::<Vec<_>>(), context)?;
    let tuning = trials.tuning.into_inner();
    Ok(Some(tuning.unwrap_or_else(PoisonError::into_inner)))
}

/// Loads the tasks on which settings are chosen.
fn basis(args: &RunArgs, plan: &Plan, backbone: &Backbone) -> anyhow::Result<(TuningBasis, Vec<TaskData>)> {
    let limits = ImageLimits {
        train: plan.limits.train.min(TUNING_IMAGES),
        ..plan.limits
    };
    let mut tasks = Vec::new();
    for folder in absolute(&args.tune)? {
        anyhow::ensure!(
            !plan.tasks.contains(&folder),
            "'{}' is one of the tasks of the run\nhint: choose settings on other tasks",
            folder.display()
        );
        tasks.push(TaskData::load(&folder, backbone.preprocessing(), limits, TUNING_SEED)?);
    }
    let basis = TuningBasis {
        backbone: plan.backbone_digest.clone(),
        tasks: tasks.iter().map(|task| task.name.clone()).collect(),
        digests: tasks.iter().map(|task| task.digest.to_string()).collect(),
        size: plan.size,
        images: limits.train,
        epochs: plan.epochs,
        seed: TUNING_SEED,
    };
    Ok((basis, tasks))
}

/// The trials of a run.
struct Trials<'a> {
    plan: &'a Plan,
    backbone: &'a Backbone,
    tasks: &'a [TaskData],
    parallel: usize,
    results: &'a std::path::Path,
    tuning: Mutex<Tuning>,
}

impl Trials<'_> {
    /// Makes the missing trials of methods that have several settings.
    fn run(&self, entries: &[&Entry], context: &Context<'_>) -> anyhow::Result<()> {
        let rate = self.network_rate();
        let missing = |(entry, settings): &(&Entry, Settings)| {
            let tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
            tuning.trial(entry.name, settings).is_none()
        };
        let all = entries.iter().filter(|entry| entry.has_choice()).flat_map(|&entry| {
            let all = entry.combinations(rate).into_iter();
            all.map(move |settings| (entry, settings))
        });
        let all: Vec<(&Entry, Settings)> = all.filter(missing).collect();
        let bar = context.output.bar(all.len() as u64, "settings");
        in_parallel(all, self.parallel, |(entry, settings)| self.one(entry, settings, &bar))?;
        bar.finish_and_clear();
        for entry in entries {
            self.show(entry, rate);
        }
        Ok(())
    }

    /// Returns the learning rate of the methods that use that of plain fine-tuning.
    fn network_rate(&self) -> f64 {
        let tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a choice, no method needs it.
        tuning.network_rate().unwrap_or_default()
    }

    fn one(&self, entry: &Entry, settings: Settings, bar: &ProgressBar) -> anyhow::Result<()> {
        bar.set_message(format!("settings of {}", entry.name));
        let options = LearnerOptions {
            epochs: self.plan.epochs,
            batch: self.plan.batch,
            ..LearnerOptions::default()
        };
        let accuracy = validation_accuracy(
            entry,
            &settings,
            self.backbone,
            self.tasks,
            TUNING_SEED,
            &options,
            &Device::Cpu,
        )?;
        let mut tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        tuning.trials.push(Trial {
            method: entry.name.to_owned(),
            settings,
            accuracy,
        });
        tuning.write(self.results)?;
        bar.inc(1);
        Ok(())
    }

    /// Logs the trials of a method.
    fn show(&self, entry: &Entry, rate: f64) {
        let tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        let all = entry.combinations(rate);
        let Some(best) = tuning.best(entry.name, &all) else {
            return;
        };
        for settings in &all {
            let Some(trial) = tuning.trial(entry.name, settings) else {
                continue;
            };
            let unit = if trial.accuracy.is_some() { " %" } else { "" };
            let chosen = if settings == best { ", chosen" } else { "" };
            tracing::info!("{} with {settings:?}: {}{unit}{chosen}", entry.name, trial.percent());
            if settings == best && trial.accuracy.is_none() {
                tracing::warn!("{}: the loss diverged with every setting", entry.name);
            }
        }
    }
}

/// Returns the settings of a method: those that were chosen, or its defaults without any trials.
pub(super) fn settings(entry: &Entry, tuning: Option<&Tuning>) -> anyhow::Result<Settings> {
    let Some(tuning) = tuning else {
        return Ok(entry.defaults());
    };
    tuning.chosen(entry).with_context(|| {
        format!(
            "the settings of `{}` were not chosen in this folder, those of other methods were\nhint: add `--tune {}`, or use another output folder",
            entry.name,
            tuning.basis.tasks.join(",")
        )
    })
}
