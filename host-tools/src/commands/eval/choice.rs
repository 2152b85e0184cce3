//! `clr eval --auto`: how often the right task is chosen by the image alone, and what that costs in accuracy.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use clr_adapters::Preprocessing;
use clr_engine::{ChooserOptions, Engine, EngineOptions, ResidentAdapter, TaskScore, score_tasks};
use clr_onnx::Backbone;
use clr_training::{Dataset, Sample};
use rayon::prelude::*;
use serde::Serialize;

use super::{EvalArgs, class_map, open, roc::auroc};
use crate::{
    backbones::read_adapter,
    commands::Context,
    output::{Output, Table, human_time},
};

/// Images in a row that are judged together, for the second figure.
const WINDOW: usize = 5;

/// One task's images.
struct Task {
    adapter: Arc<ResidentAdapter>,
    dataset: Dataset,
    samples: Vec<Sample>,
    /// The adapter's class for each class of the data.
    classes: Vec<usize>,
}

/// One image: its score for every task, and whether its own task's adapter classifies it correctly.
struct Row {
    scores: Vec<TaskScore>,
    right: bool,
}

#[derive(Serialize)]
struct TaskChoice {
    task: String,
    #[serde(rename = "pictures")]
    images: usize,
    /// `chosen[i]`: images for which task `i` had the highest score.
    chosen: Vec<usize>,
    #[serde(flatten)]
    shares: Shares,
}

/// What is said of a task's images, and of all tasks in the mean.
#[derive(Serialize)]
struct Shares {
    /// Share of images for which the right task had the highest score.
    right: f64,
    /// The same, of scores averaged over five images in a row.
    right_of_five: f64,
    /// Accuracy of the task's own adapter.
    accuracy_with_oracle: f64,
    /// Accuracy when the chosen task's adapter answers; another task's answer is wrong.
    accuracy_without_oracle: f64,
    /// With this task not installed: how well the OOD score of the task chosen separates its images from the others'.
    unknown_auroc: f64,
    /// The same, of five images in a row.
    unknown_auroc_of_five: f64,
    /// With this task not installed: share of its images that are called unknown at the default tolerance.
    called_unknown: f64,
    /// With this task installed: share of its images that are called unknown.
    wrongly_unknown: f64,
}

#[derive(Serialize)]
struct Document {
    tasks: Vec<TaskChoice>,
    /// Over the tasks.
    mean: Shares,
    tolerance: f32,
    /// Wall time of the scores of one image, one thread, reading and decoding not included.
    #[serde(rename = "seconds_per_picture")]
    seconds_per_image: f64,
}

pub(super) fn run(args: &EvalArgs, backbone: Backbone, context: &Context<'_>) -> anyhow::Result<u8> {
    anyhow::ensure!(
        args.adapter.len() == args.data.len() && args.adapter.len() > 1,
        "{} adapters and {} folders\nhint: --auto takes two or more adapters, and a folder for each in the same order",
        args.adapter.len(),
        args.data.len()
    );
    anyhow::ensure!(
        args.device.open()?.is_cpu(),
        "--auto is measured with the device engine\nhint: leave --device out"
    );
    let engine = Engine::new(backbone, EngineOptions::default())?;
    let tasks = prepare(args, &engine)?;
    let adapters: Vec<_> = tasks.iter().map(|task| Arc::clone(&task.adapter)).collect();
    let rows = tasks
        .iter()
        .map(|task| measure(&engine, &adapters, task, context.output))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let tolerance = ChooserOptions::default().ood_threshold;
    let choices = (0..tasks.len()).map(|task| summary(task, &tasks, &rows, tolerance));
    let choices: Vec<TaskChoice> = choices.collect();
    let document = Document {
        mean: means(&choices),
        tasks: choices,
        tolerance,
        seconds_per_image: time(&engine, &adapters, &tasks)?,
    };
    if context.output.json {
        context.output.document("eval-auto", &document)?;
    } else {
        print(&document, context.output)?;
    }
    Ok(0)
}

fn prepare(args: &EvalArgs, engine: &Engine) -> anyhow::Result<Vec<Task>> {
    let pairs = args.adapter.iter().zip(&args.data);
    pairs
        .map(|(path, data)| {
            let adapter = engine.prepare(&read_adapter(path)?.adapter)?;
            anyhow::ensure!(
                adapter.profile().is_some(),
                "'{}' has no profile\nhint: train it again; adapters of format version 1 have none",
                path.display()
            );
            let (dataset, mut samples) = open(args, data)?;
            if let Some(limit) = args.limit.filter(|&limit| limit > 0 && limit < samples.len()) {
                let count = samples.len();
                samples = (0..limit).map(|index| samples[index * count / limit].clone()).collect();
            }
            Ok(Task {
                classes: class_map(dataset.classes(), adapter.labels())?,
                adapter: Arc::new(adapter),
                dataset,
                samples,
            })
        })
        .collect()
}

/// Scores and answers of one task's images, one image per core at a time; what cannot be read is left out.
fn measure(
    engine: &Engine,
    adapters: &[Arc<ResidentAdapter>],
    task: &Task,
    output: &Output,
) -> anyhow::Result<Vec<Row>> {
    let bar = output.bar(task.samples.len() as u64, task.adapter.task());
    let inputs = inputs(adapters);
    let rows: Vec<anyhow::Result<Option<Row>>> = task
        .samples
        .par_iter()
        .map(|sample| {
            bar.inc(1);
            let image = match clr_onnx::decode_image_for(&task.dataset.root().join(&sample.path), &inputs) {
                Ok(image) => image,
                Err(error) => {
                    tracing::warn!("skipped: {error}");
                    return Ok(None);
                }
            };
            let answer = engine.classify(&task.adapter, &image)?;
            let scores = score_tasks(engine, adapters, &image)?;
            Ok(Some(Row {
                scores: scores.into_iter().flatten().collect(),
                right: answer.best().map(|best| best.class) == Some(task.classes[sample.class]),
            }))
        })
        .collect();
    bar.finish_and_clear();
    let rows: Vec<Row> = rows
        .into_iter()
        .filter_map(Result::transpose)
        .collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!rows.is_empty(), "no image of `{}` could be read", task.adapter.task());
    Ok(rows)
}

/// What the device decodes for where it chooses among `adapters`.
fn inputs(adapters: &[Arc<ResidentAdapter>]) -> Vec<&Preprocessing> {
    adapters.iter().map(|adapter| adapter.preprocessing()).collect()
}

/// Returns seconds for all scores of an image, the median of up to 20 images on one thread.
fn time(engine: &Engine, adapters: &[Arc<ResidentAdapter>], tasks: &[Task]) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for task in tasks.iter().cycle().take(20) {
        let sample = task.samples.get(times.len() % task.samples.len()).context("no image")?;
        let path = task.dataset.root().join(&sample.path);
        let Ok(image) = clr_onnx::decode_image_for(&path, &inputs(adapters)) else {
            continue;
        };
        let start = Instant::now();
        score_tasks(engine, adapters, &image)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("no image could be read")
}

/// Returns the task with the highest score among `candidates`, and its OOD score.
fn choose(scores: &[TaskScore], candidates: impl Iterator<Item = usize>) -> Option<(usize, f32)> {
    let best = candidates.max_by(|&a, &b| scores[a].score.total_cmp(&scores[b].score).then(b.cmp(&a)));
    best.map(|best| (best, scores[best].ood_score))
}

/// Scores averaged over every `WINDOW` rows in a row.
fn windows(rows: &[Row]) -> Vec<Vec<TaskScore>> {
    rows.chunks(WINDOW)
        .map(|rows| {
            let mean = |of: &dyn Fn(&TaskScore) -> f32, task: usize| {
                rows.iter().map(|row| of(&row.scores[task])).sum::<f32>() / rows.len() as f32
            };
            (0..rows[0].scores.len())
                .map(|task| TaskScore {
                    score: mean(&|score| score.score, task),
                    ood_score: mean(&|score| score.ood_score, task),
                })
                .collect()
        })
        .collect()
}

fn summary(own: usize, tasks: &[Task], rows: &[Vec<Row>], tolerance: f32) -> TaskChoice {
    let all = || 0..tasks.len();
    let images = rows[own].len();
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let mut chosen = vec![0; tasks.len()];
    let (mut answered, mut strange) = (0, 0);
    for row in &rows[own] {
        if let Some((task, ood_score)) = choose(&row.scores, all()) {
            chosen[task] += 1;
            answered += usize::from(task == own && row.right);
            strange += usize::from(ood_score > tolerance);
        }
    }
    let five = windows(&rows[own]);
    let right_of_five = five
        .iter()
        .filter(|scores| choose(scores, all()).is_some_and(|(task, _)| task == own));
    let right_of_five = right_of_five.count();

    // This task is not installed: its images are out of distribution, all others' are not.
    let score_without_own = |scores: &[TaskScore]| choose(scores, all().filter(|&task| task != own)).map(|(_, it)| it);
    let single = |rows: &[Row]| -> Vec<f32> { rows.iter().filter_map(|row| score_without_own(&row.scores)).collect() };
    let grouped = |rows: &[Row]| -> Vec<f32> {
        windows(rows)
            .iter()
            .filter_map(|scores| score_without_own(scores))
            .collect()
    };
    let others = |of: &dyn Fn(&[Row]) -> Vec<f32>| -> Vec<f32> {
        all()
            .filter(|&task| task != own)
            .flat_map(|task| of(&rows[task]))
            .collect()
    };
    let foreign = single(&rows[own]);
    let unknown = foreign.iter().filter(|&&score| score > tolerance).count();
    TaskChoice {
        task: tasks[own].adapter.task().to_owned(),
        images,
        shares: Shares {
            right: share(chosen[own], images),
            right_of_five: share(right_of_five, five.len()),
            accuracy_with_oracle: share(rows[own].iter().filter(|row| row.right).count(), images),
            accuracy_without_oracle: share(answered, images),
            unknown_auroc: auroc(&foreign, &others(&single)),
            unknown_auroc_of_five: auroc(&grouped(&rows[own]), &others(&grouped)),
            called_unknown: share(unknown, foreign.len()),
            wrongly_unknown: share(strange, images),
        },
        chosen,
    }
}

fn means(tasks: &[TaskChoice]) -> Shares {
    let mean =
        |of: fn(&Shares) -> f64| tasks.iter().map(|task| of(&task.shares)).sum::<f64>() / tasks.len().max(1) as f64;
    Shares {
        right: mean(|task| task.right),
        right_of_five: mean(|task| task.right_of_five),
        accuracy_with_oracle: mean(|task| task.accuracy_with_oracle),
        accuracy_without_oracle: mean(|task| task.accuracy_without_oracle),
        unknown_auroc: mean(|task| task.unknown_auroc),
        unknown_auroc_of_five: mean(|task| task.unknown_auroc_of_five),
        called_unknown: mean(|task| task.called_unknown),
        wrongly_unknown: mean(|task| task.wrongly_unknown),
    }
}

/// Returns a row of the table.
fn row(task: &str, images: usize, taken_for: String, shares: &Shares) -> [String; 11] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    [
        task.to_owned(),
        images.to_string(),
        percent(shares.right),
        percent(shares.right_of_five),
        taken_for,
        percent(shares.accuracy_with_oracle),
        percent(shares.accuracy_without_oracle),
        format!("{:.3}", shares.unknown_auroc),
        format!("{:.3}", shares.unknown_auroc_of_five),
        percent(shares.called_unknown),
        percent(shares.wrongly_unknown),
    ]
}

fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    let mut table = Table::new([
        "task",
        "images",
        "right",
        "of five",
        "mostly taken for",
        "with oracle",
        "without",
        "AUROC",
        "of five",
        "unknown",
        "wrongly",
    ]);
    for (own, task) in document.tasks.iter().enumerate() {
        let others = task
            .chosen
            .iter()
            .enumerate()
            .filter(|&(other, &count)| other != own && count > 0);
        let confused = others.max_by_key(|&(_, count)| count);
        let taken_for = confused.map_or_else(String::new, |(other, count)| {
            format!("{} {count}", document.tasks[other].task)
        });
        table.row(row(&task.task, task.images, taken_for, &task.shares));
    }
    let images = document.tasks.iter().map(|task| task.images).sum();
    table.row(row("mean", images, String::new(), &document.mean));
    output.table(&table)?;
    output.line(&format!(
        "scores of {} tasks: {} an image on one thread; unknown beyond an OOD score of {}",
        document.tasks.len(),
        human_time(document.seconds_per_image),
        document.tolerance
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(scores: [f32; 3]) -> Row {
        Row {
            scores: scores
                .map(|score| TaskScore {
                    score,
                    ood_score: -score,
                })
                .to_vec(),
            right: true,
        }
    }

    #[test]
    fn the_highest_score_is_chosen_among_those_installed() {
        let scores = image([-1.0, -3.0, -2.0]).scores;
        assert_eq!(choose(&scores, 0..3), Some((0, 1.0)));
        assert_eq!(choose(&scores, 1..3), Some((2, 2.0)));
        assert_eq!(choose(&scores, 0..0), None);
    }

    #[test]
    fn windows_average_what_lies_in_a_row() {
        let rows: Vec<Row> = (0..7).map(|index| image([index as f32, 0.0, 1.0])).collect();
        let windows = windows(&rows);
        assert_eq!(windows.len(), 2);
        assert!((windows[0][0].score - 2.0).abs() < 1e-6 && (windows[1][0].score - 5.5).abs() < 1e-6);
    }
}
