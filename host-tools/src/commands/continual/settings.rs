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
/// Learning rate of plain fine-tuning without a choice.
const RATE: f64 = 0.01;

/// Reads the trials that were made before, after those that are missing were made.
pub(super) fn tuned(
    args: &RunArgs,
    entries: &[&'static Entry],
    plan: &Plan,
    backbone: &Backbone,
    context: &Context<'_>,
) -> anyhow::Result<Option<Tuning>> {
    let known = Tuning::read(&args.output).context("hint: delete the file to repeat the tuning")?;
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
    trials.run(&sgd.into_iter().collect::<Vec<_>>(), RATE, context)?;
    let rate = rate(&trials.tuning.lock().unwrap_or_else(PoisonError::into_inner));
    trials.run(&others.collect::<Vec<_>>(), rate, context)?;
    Ok(Some(trials.tuning.into_inner().unwrap_or_else(PoisonError::into_inner)))
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
    fn run(&self, entries: &[&Entry], rate: f64, context: &Context<'_>) -> anyhow::Result<()> {
        let missing = |(entry, settings): &(&Entry, Settings)| {
            let tuning = self.tuning.lock().unwrap_or_else(PoisonError::into_inner);
            tuning.trial(entry.name, settings).is_none()
        };
        let all = entries.iter().flat_map(|&entry| {
            let all = entry.combinations(rate);
            let several = all.len() > 1;
            all.into_iter()
                .filter(move |_| several)
                .map(move |settings| (entry, settings))
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
            let accuracy = tuning.trial(entry.name, settings).and_then(|trial| trial.accuracy);
            let text = accuracy.map_or("diverged".to_owned(), |accuracy| format!("{:.1} %", 100.0 * accuracy));
            let chosen = if settings == best { ", chosen" } else { "" };
            tracing::info!("{} with {settings:?}: {text}{chosen}", entry.name);
            if settings == best && accuracy.is_none() {
                tracing::warn!("{}: the loss diverged with every setting", entry.name);
            }
        }
    }
}

/// Returns the learning rate that was chosen for plain fine-tuning.
fn rate(tuning: &Tuning) -> f64 {
    let best = find("sgd").and_then(|sgd| {
        let all = sgd.combinations(RATE);
        tuning.best("sgd", &all)?.get("rate").copied()
    });
    best.unwrap_or(RATE)
}

/// Returns the settings that were chosen for a method, or its defaults with the learning rate that was chosen for plain
/// fine-tuning.
pub(super) fn settings(entry: &Entry, tuning: Option<&Tuning>) -> Settings {
    let chosen = tuning.and_then(|tuning| {
        let all = entry.combinations(rate(tuning));
        match all.as_slice() {
            // Without a choice there is no trial.
            [settings] => Some(settings.clone()),
            several => tuning.best(entry.name, several).cloned(),
        }
    });
    chosen.unwrap_or_else(|| {
        let mut settings = entry.defaults();
        if let (Some(tuning), true) = (tuning, entry.rate_of_sgd) {
            settings.insert("network-rate".to_owned(), rate(tuning));
        }
        settings
    })
}
