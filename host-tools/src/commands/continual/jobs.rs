//! Jobs, several at a time.

use std::path::Path;

use anyhow::Context as _;
use candle_core::Device;
use clr_continual::{
    ContinualError, TaskData,
    run::{Event, Plan, run_job},
};
use clr_onnx::Backbone;
use indicatif::ProgressBar;
use serde::Serialize;

use super::parallel::in_parallel;
use crate::output::Output;

/// The result of a job.
#[derive(Serialize)]
pub(super) struct FinishedJob {
    pub(super) index: usize,
    pub(super) method: String,
    pub(super) seed: u64,
    /// Average accuracy after the last task; `None` if the loss diverged.
    pub(super) average_accuracy: Option<f64>,
}

/// Loads the tasks of a seed, once for all its jobs.
fn load(plan: &Plan, backbone: &Backbone, seed: u64) -> anyhow::Result<Vec<TaskData>> {
    let order = plan.order(seed);
    let tasks = order.into_iter().map(|index| {
        let folder = &plan.tasks[index];
        Ok(TaskData::load(folder, backbone.preprocessing(), plan.limits, seed)?)
    });
    tasks.collect()
}

/// Runs jobs, `parallel` at a time, seed after seed.
pub(super) fn run_jobs(
    plan: &Plan,
    indices: &[usize],
    backbone: &Backbone,
    parallel: usize,
    results: &Path,
    output: &Output,
) -> anyhow::Result<Vec<FinishedJob>> {
    let steps = (plan.tasks.len() * plan.epochs) as u64;
    let bar = output.bar(steps * indices.len() as u64, "jobs");
    let mut finished = Vec::new();
    let mut seeds: Vec<u64> = indices.iter().map(|&index| plan.jobs[index].seed).collect();
    seeds.dedup();
    for seed in seeds {
        let loaded = load(plan, backbone, seed)?;
        let of_seed = indices.iter().copied().filter(|&index| plan.jobs[index].seed == seed);
        finished.extend(in_parallel(of_seed.collect(), parallel, |index| {
            one_job(plan, index, backbone, &loaded, results, &bar)
        })?);
    }
    bar.finish_and_clear();
    Ok(finished)
}

fn one_job(
    plan: &Plan,
    index: usize,
    backbone: &Backbone,
    loaded: &[TaskData],
    results: &Path,
    bar: &ProgressBar,
) -> anyhow::Result<FinishedJob> {
    let job = &plan.jobs[index];
    bar.set_message(format!("{}, seed {}", job.method, job.seed));
    let mut progress = |event: Event| {
        tracing::debug!(
            "{}: task {}, epoch {}: loss {:.3}",
            job.folder(),
            event.task + 1,
            event.epoch,
            event.loss
        );
        bar.inc(1);
    };
    let cells = run_job(plan, job, backbone, loaded, results, &Device::Cpu, &mut progress);
    let diverged = |error: &ContinualError| matches!(error, ContinualError::Diverged { .. });
    if let Err(error) = &cells
        && diverged(error)
    {
        bar.suspend(|| tracing::warn!("{}: {error}", job.folder()));
        return Ok(FinishedJob {
            index,
            method: job.method.clone(),
            seed: job.seed,
            average_accuracy: None,
        });
    }
    let cells = cells.with_context(|| job.folder())?;
    let last: Vec<_> = cells.iter().filter(|cell| cell.after + 1 == plan.tasks.len()).collect();
    let sum: f64 = last
        .iter()
        .map(|cell| cell.correct as f64 / cell.total.max(1) as f64)
        .sum();
    let average_accuracy = sum / last.len().max(1) as f64;
    bar.suspend(|| tracing::info!("{}: {:.1} % on all tasks", job.folder(), 100.0 * average_accuracy));
    Ok(FinishedJob {
        index,
        method: job.method.clone(),
        seed: job.seed,
        average_accuracy: Some(average_accuracy),
    })
}
