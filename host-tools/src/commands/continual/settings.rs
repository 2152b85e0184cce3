//! Choice of settings on other tasks.

use anyhow::Context as _;
use candle_core::Device;
use clr_continual::{
    ImageLimits, LearnerOptions, TaskData,
    registry::{self, Entry},
    run::{Choice, Plan, tune},
};
use clr_onnx::Backbone;
use serde::{Deserialize, Serialize};

use super::{args::RunArgs, folders::absolute};
use crate::{commands::Context, destination::write_atomically};

/// Name of the choices in a results folder.
pub(super) const TUNING: &str = "tuning.json";

/// Seed of the sequence on which settings are chosen.
const TUNING_SEED: u64 = 100;

/// What settings were chosen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Basis {
    /// Digest of the backbone.
    backbone: String,
    /// Digests of the tasks' images.
    tasks: Vec<String>,
    size: [u32; 2],
    epochs: usize,
}

/// The file of the choices.
#[derive(Serialize, Deserialize)]
struct Tuning {
    basis: Basis,
    choices: Vec<Choice>,
}

/// Chooses settings on other tasks, or reads the choices that were made before.
pub(super) fn choices(
    args: &RunArgs,
    entries: &[&'static Entry],
    plan: &Plan,
    backbone: &Backbone,
    context: &Context<'_>,
) -> anyhow::Result<Vec<Choice>> {
    let file = args.output.join(TUNING);
    let mut tuning: Option<Tuning> = if file.exists() {
        let text = std::fs::read_to_string(&file)?;
        Some(serde_json::from_str(&text).with_context(|| {
            format!(
                "cannot parse '{}'\nhint: delete it to repeat the tuning",
                file.display()
            )
        })?)
    } else {
        None
    };
    if args.tune.is_empty() {
        return Ok(tuning.map(|tuning| tuning.choices).unwrap_or_default());
    }
    let limits = ImageLimits {
        train: plan.limits.train.min(300),
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
    let basis = Basis {
        backbone: plan.backbone_digest.clone(),
        tasks: tasks.iter().map(|task| task.digest.to_string()).collect(),
        size: plan.size,
        epochs: plan.epochs,
    };
    if let Some(known) = &tuning {
        anyhow::ensure!(
            known.basis == basis,
            "'{}' has settings for another backbone, other tasks or sizes\nhint: use another output folder",
            file.display()
        );
    }
    let mut choices = tuning.take().map(|tuning| tuning.choices).unwrap_or_default();
    let options = LearnerOptions {
        epochs: plan.epochs,
        batch: plan.batch,
        ..LearnerOptions::default()
    };
    // The rate of plain fine-tuning comes first, because others use it.
    let sgd = registry::find("sgd")
        .into_iter()
        .filter(|_| entries.iter().any(|entry| entry.rate_of_sgd));
    let all: Vec<&Entry> = sgd
        .chain(
            entries
                .iter()
                .copied()
                .filter(|entry| entry.name != "sgd" || !entries.iter().any(|entry| entry.rate_of_sgd)),
        )
        .collect();
    let bar = context.output.bar(all.len() as u64, "settings");
    for entry in all {
        bar.set_message(format!("settings of {}", entry.name));
        if !choices.iter().any(|choice| choice.method == entry.name) {
            let rate = choices.iter().find(|choice| choice.method == "sgd");
            let rate = rate.and_then(|choice| choice.tried[choice.best].settings.get("rate").copied());
            let choice = tune(
                entry,
                rate.unwrap_or(0.01),
                backbone,
                &tasks,
                TUNING_SEED,
                &options,
                &Device::Cpu,
            )?;
            for (index, tried) in choice.tried.iter().enumerate() {
                let accuracy = tried
                    .accuracy
                    .map_or("diverged".to_owned(), |accuracy| format!("{:.1} %", 100.0 * accuracy));
                let chosen = if index == choice.best { ", chosen" } else { "" };
                bar.suspend(|| tracing::info!("{} with {:?}: {accuracy}{chosen}", entry.name, tried.settings));
            }
            if choice.tried[choice.best].accuracy.is_none() {
                bar.suspend(|| tracing::warn!("{}: the loss diverged with every setting", entry.name));
            }
            choices.push(choice);
            let tuning = Tuning {
                basis: basis.clone(),
                choices: choices.clone(),
            };
            write_atomically(&file, (serde_json::to_string_pretty(&tuning)? + "\n").as_bytes())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(choices)
}
