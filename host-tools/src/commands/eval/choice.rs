//! `clr eval --auto`: accuracy of selecting the task from the image, and accuracy with the selected task.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use clr_adapters::{BackgroundId, Preprocessing};
use clr_engine::{Engine, EngineOptions, ResidentAdapter, ScoreOptions, TaskScore, score_tasks};
use clr_onnx::Backbone;
use clr_training::{Dataset, Sample, evenly_spaced};
use rayon::prelude::*;
use serde::Serialize;

use super::{EvalArgs, class_map, open, roc::auroc};
use crate::{
    backbones::read_adapter,
    commands::Context,
    output::{Output, Table, human_time},
};

/// Number of consecutive images whose scores are averaged for the second result.
const WINDOW: usize = 5;
/// Out-of-distribution score above which an image is unknown.
const THRESHOLD: f32 = 1.0;

/// A task with its adapter and images.
struct Task {
    adapter: Arc<ResidentAdapter>,
    dataset: Dataset,
    samples: Vec<Sample>,
    /// For each class of the data, the adapter's class.
    classes: Vec<usize>,
}

/// An image's scores for every task, and whether its own task's adapter classifies it correctly.
struct ScoredImage {
    scores: Vec<TaskScore>,
    correct: bool,
}

#[derive(Serialize)]
struct TaskChoice {
    task: String,
    #[serde(rename = "pictures")]
    images: usize,
    /// `chosen[i]` is the number of images for which task `i` had the highest score.
    chosen: Vec<usize>,
    #[serde(flatten)]
    shares: Shares,
}

/// Results for the images of one task, or the mean over all tasks.
#[derive(Serialize)]
struct Shares {
    /// Fraction of images for which their own task had the highest score.
    #[serde(rename = "right")]
    task_accuracy: f64,
    /// The same fraction, with scores averaged over five consecutive images.
    #[serde(rename = "right_of_five")]
    task_accuracy_of_five: f64,
    /// Accuracy of the task's own adapter.
    accuracy_with_oracle: f64,
    /// Accuracy with the selected task's adapter. An image for which another task was selected counts as wrong.
    accuracy_without_oracle: f64,
    /// With this task not installed: AUROC of the selected task's OOD score, for this task's images against all others.
    unknown_auroc: f64,
    /// The same, with five consecutive images.
    unknown_auroc_of_five: f64,
    /// With this task not installed: fraction of its images that are classified as unknown at the default threshold.
    #[serde(rename = "called_unknown")]
    unknown_recall: f64,
    /// With this task installed: fraction of its images that are classified as unknown.
    #[serde(rename = "wrongly_unknown")]
    unknown_fpr: f64,
}

#[derive(Serialize)]
struct Document {
    tasks: Vec<TaskChoice>,
    /// Mean over the tasks.
    mean: Shares,
    /// The rate of false alarms that was asked for.
    false_alarms: f32,
    /// Wall time of computing the scores of one image on one thread, without reading and decoding.
    #[serde(rename = "seconds_per_picture")]
    seconds_per_image: f64,
}

pub(super) fn run(args: &EvalArgs, backbone: Backbone, context: &Context<'_>) -> anyhow::Result<u8> {
    anyhow::ensure!(
        args.adapter.len() == args.data.len() && args.adapter.len() > 1,
        "got {} adapters and {} folders\nhint: --auto needs two or more adapters, and one folder for each in the same \
         order",
        args.adapter.len(),
        args.data.len()
    );
    anyhow::ensure!(
        args.device.open()?.is_cpu(),
        "--auto always uses the device engine\nhint: omit --device"
    );
    let engine = Engine::new(backbone, EngineOptions::default())?;
    let tasks = prepare(args, &engine)?;
    let adapters: Vec<_> = tasks.iter().map(|task| Arc::clone(&task.adapter)).collect();
    // Without the image's own task, the second is the best one, so its head is asked as well.
    let options = ScoreOptions::default()
        .with_false_alarms(args.false_alarms)
        .with_heads(2);
    let scored = tasks
        .iter()
        .map(|task| measure(&engine, &adapters, task, options, context.output))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let choices = (0..tasks.len()).map(|task| summary(task, &tasks, &scored));
    let choices: Vec<TaskChoice> = choices.collect();
    let document = Document {
        mean: means(&choices),
        tasks: choices,
        false_alarms: args.false_alarms,
        seconds_per_image: time(&engine, &adapters, &tasks, options)?,
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
            check_profile(&adapter, engine, path)?;
            let (dataset, mut samples) = open(args, data)?;
            if let Some(limit) = args.limit.filter(|&limit| limit > 0) {
                let chosen = evenly_spaced(samples.len(), limit);
                samples = chosen.map(|index| samples[index].clone()).collect();
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

/// Checks that the engine can score images for the adapter's task.
fn check_profile(adapter: &ResidentAdapter, engine: &Engine, path: &Path) -> anyhow::Result<()> {
    let Some(profile) = adapter.profile() else {
        anyhow::bail!(
            "'{}' has no profile\nhint: train it again; adapters of format version 1 have none",
            path.display()
        );
    };
    let own = profile.own_scores.ratios().map(|ratios| ratios.background);
    let present = engine.backbone().background().map(|background| background.id());
    let name =
        |id: Option<BackgroundId>| id.map_or_else(|| "no background".to_owned(), |id| format!("background {id}"));
    anyhow::ensure!(
        own == present,
        "'{}' was trained with {}, the backbone has {}\nhint: train it again with the background next to the \
         backbone, or put its own one there",
        path.display(),
        name(own),
        name(present)
    );
    Ok(())
}

/// Scores and classifies a task's images, one image per CPU core at a time. Unreadable images are left out.
fn measure(
    engine: &Engine,
    adapters: &[Arc<ResidentAdapter>],
    task: &Task,
    options: ScoreOptions,
    output: &Output,
) -> anyhow::Result<Vec<ScoredImage>> {
    let bar = output.bar(task.samples.len() as u64, task.adapter.task());
    let inputs = inputs(adapters);
    let scored: Vec<anyhow::Result<Option<ScoredImage>>> = task
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
            let mut pass = engine.pass(&image);
            let scores = score_tasks(&mut pass, adapters, options, |_| true)?;
            let result = pass.classify(&task.adapter)?;
            Ok(Some(ScoredImage {
                scores: scores.into_iter().flatten().collect(),
                correct: result.best().map(|best| best.class) == Some(task.classes[sample.class]),
            }))
        })
        .collect();
    bar.finish_and_clear();
    let scored: Vec<ScoredImage> = scored
        .into_iter()
        .filter_map(Result::transpose)
        .collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(
        !scored.is_empty(),
        "no image of `{}` could be read",
        task.adapter.task()
    );
    Ok(scored)
}

/// Returns the inputs for which the device decodes an image when it selects among `adapters`.
fn inputs(adapters: &[Arc<ResidentAdapter>]) -> Vec<&Preprocessing> {
    adapters.iter().map(|adapter| adapter.preprocessing()).collect()
}

/// Returns the time of computing all scores of an image in seconds: the median of up to 20 images on one thread.
fn time(
    engine: &Engine,
    adapters: &[Arc<ResidentAdapter>],
    tasks: &[Task],
    options: ScoreOptions,
) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for task in tasks.iter().cycle().take(20) {
        let sample = task.samples.get(times.len() % task.samples.len()).context("no image")?;
        let path = task.dataset.root().join(&sample.path);
        let Ok(image) = clr_onnx::decode_image_for(&path, &inputs(adapters)) else {
            continue;
        };
        let start = Instant::now();
        score_tasks(&mut engine.pass(&image), adapters, options.with_heads(0), |_| false)?;
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

/// Returns the scores averaged over every window of `WINDOW` consecutive images.
fn windows(scored: &[ScoredImage]) -> Vec<Vec<TaskScore>> {
    scored
        .chunks(WINDOW)
        .map(|scored| {
            let mean = |of: &dyn Fn(&TaskScore) -> f32, task: usize| {
                scored.iter().map(|image| of(&image.scores[task])).sum::<f32>() / scored.len() as f32
            };
            (0..scored[0].scores.len())
                .map(|task| TaskScore {
                    score: mean(&|score| score.score, task),
                    ood_score: mean(&|score| score.ood_score, task),
                })
                .collect()
        })
        .collect()
}

fn summary(own: usize, tasks: &[Task], scored: &[Vec<ScoredImage>]) -> TaskChoice {
    let all = || 0..tasks.len();
    let images = scored[own].len();
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let mut chosen = vec![0; tasks.len()];
    let (mut answered, mut strange) = (0, 0);
    for image in &scored[own] {
        if let Some((task, ood_score)) = choose(&image.scores, all()) {
            chosen[task] += 1;
            answered += usize::from(task == own && image.correct);
            strange += usize::from(ood_score > THRESHOLD);
        }
    }
    let five = windows(&scored[own]);
    let correct_of_five = five
        .iter()
        .filter(|scores| choose(scores, all()).is_some_and(|(task, _)| task == own));
    let correct_of_five = correct_of_five.count();

    // With this task not installed, its images are out of distribution and all other images are not.
    let score_without_own = |scores: &[TaskScore]| choose(scores, all().filter(|&task| task != own)).map(|(_, it)| it);
    let single = |scored: &[ScoredImage]| -> Vec<f32> {
        scored
            .iter()
            .filter_map(|image| score_without_own(&image.scores))
            .collect()
    };
    let grouped = |scored: &[ScoredImage]| -> Vec<f32> {
        windows(scored)
            .iter()
            .filter_map(|scores| score_without_own(scores))
            .collect()
    };
    let others = |of: &dyn Fn(&[ScoredImage]) -> Vec<f32>| -> Vec<f32> {
        all()
            .filter(|&task| task != own)
            .flat_map(|task| of(&scored[task]))
            .collect()
    };
    let foreign = single(&scored[own]);
    let unknown = foreign.iter().filter(|&&score| score > THRESHOLD).count();
    TaskChoice {
        task: tasks[own].adapter.task().to_owned(),
        images,
        shares: Shares {
            task_accuracy: share(chosen[own], images),
            task_accuracy_of_five: share(correct_of_five, five.len()),
            accuracy_with_oracle: share(scored[own].iter().filter(|image| image.correct).count(), images),
            accuracy_without_oracle: share(answered, images),
            unknown_auroc: auroc(&foreign, &others(&single)),
            unknown_auroc_of_five: auroc(&grouped(&scored[own]), &others(&grouped)),
            unknown_recall: share(unknown, foreign.len()),
            unknown_fpr: share(strange, images),
        },
        chosen,
    }
}

fn means(tasks: &[TaskChoice]) -> Shares {
    let mean =
        |of: fn(&Shares) -> f64| tasks.iter().map(|task| of(&task.shares)).sum::<f64>() / tasks.len().max(1) as f64;
    Shares {
        task_accuracy: mean(|task| task.task_accuracy),
        task_accuracy_of_five: mean(|task| task.task_accuracy_of_five),
        accuracy_with_oracle: mean(|task| task.accuracy_with_oracle),
        accuracy_without_oracle: mean(|task| task.accuracy_without_oracle),
        unknown_auroc: mean(|task| task.unknown_auroc),
        unknown_auroc_of_five: mean(|task| task.unknown_auroc_of_five),
        unknown_recall: mean(|task| task.unknown_recall),
        unknown_fpr: mean(|task| task.unknown_fpr),
    }
}

/// Returns a row of the table.
fn row(task: &str, images: usize, taken_for: String, shares: &Shares) -> [String; 11] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    [
        task.to_owned(),
        images.to_string(),
        percent(shares.task_accuracy),
        percent(shares.task_accuracy_of_five),
        taken_for,
        percent(shares.accuracy_with_oracle),
        percent(shares.accuracy_without_oracle),
        format!("{:.3}", shares.unknown_auroc),
        format!("{:.3}", shares.unknown_auroc_of_five),
        percent(shares.unknown_recall),
        percent(shares.unknown_fpr),
    ]
}

fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    let mut table = Table::new([
        "task",
        "images",
        "task accuracy",
        "of five",
        "most frequent error",
        "with oracle",
        "without",
        "AUROC",
        "of five",
        "unknown recall",
        "unknown FPR",
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
        "scores of {} tasks take {} per image on one thread; {} % false alarms were asked for",
        document.tasks.len(),
        human_time(document.seconds_per_image),
        100.0 * document.false_alarms
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(scores: [f32; 3]) -> ScoredImage {
        ScoredImage {
            scores: scores
                .map(|score| TaskScore {
                    score,
                    ood_score: -score,
                })
                .to_vec(),
            correct: true,
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
    fn windows_average_consecutive_images() {
        let scored: Vec<ScoredImage> = (0..7).map(|index| image([index as f32, 0.0, 1.0])).collect();
        let windows = windows(&scored);
        assert_eq!(windows.len(), 2);
        assert!((windows[0][0].score - 2.0).abs() < 1e-6 && (windows[1][0].score - 5.5).abs() < 1e-6);
    }
}
