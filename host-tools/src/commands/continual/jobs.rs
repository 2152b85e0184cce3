//! Jobs, several at a time.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use candle_core::Device;
use clr_continual::{
    ContinualError, TaskData,
    run::{Plan, run_job},
};
use clr_onnx::Backbone;
use indicatif::ProgressBar;
use serde::Serialize;

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

/// Tasks of a seed, loaded once for all its jobs.
struct Loaded {
    seed: u64,
    tasks: Vec<TaskData>,
}

fn load(plan: &Plan, backbone: &Backbone, seed: u64) -> anyhow::Result<Loaded> {
    let order = plan.order(seed);
    let tasks = order.into_iter().map(|index| {
        Ok(TaskData::load(
            &plan.tasks[index],
            backbone.preprocessing(),
            plan.limits,
            seed,
        )?)
    });
    Ok(Loaded {
        seed,
        tasks: tasks.collect::<anyhow::Result<_>>()?,
    })
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
        let queue: VecDeque<usize> = indices
            .iter()
            .copied()
            .filter(|&index| plan.jobs[index].seed == loaded.seed)
            .collect();
        let queue = Mutex::new(queue);
        let results_of_jobs = Mutex::new(Vec::new());
        let threads = (rayon::current_num_threads() / parallel).max(1);
        std::thread::scope(|scope| {
            for _ in 0..parallel {
                scope.spawn(|| {
                    while let Some(index) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                        let result = one_job(plan, index, backbone, &loaded, results, threads, &bar);
                        if result.is_err() {
                            queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        }
                        results_of_jobs
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((index, result));
                    }
                });
            }
        });
        let mut done = results_of_jobs.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        for (_, result) in done {
            finished.push(result?);
        }
    }
    bar.finish_and_clear();
    Ok(finished)
}

fn one_job(
    plan: &Plan,
    index: usize,
    backbone: &Backbone,
    loaded: &Loaded,
    results: &Path,
    threads: usize,
    bar: &ProgressBar,
) -> anyhow::Result<FinishedJob> {
    let job = &plan.jobs[index];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let cells = pool.install(|| {
        bar.set_message(format!("{}, seed {}", job.method, job.seed));
        run_job(
            plan,
            job,
            backbone,
            &loaded.tasks,
            results,
            &Device::Cpu,
            &mut |event| {
                tracing::debug!(
                    "{}: task {}, epoch {}: loss {:.3}",
                    job.folder(),
                    event.task + 1,
                    event.epoch,
                    event.loss
                );
                bar.inc(1);
            },
        )
    });
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
