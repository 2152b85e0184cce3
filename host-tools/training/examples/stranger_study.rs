//! Choice of the task and detection of strangers, against backgrounds that do not contain the stranger.
//!
//! ```sh
//! cargo run --release -p clr-training --example stranger_study -- lite0.onnx TASKS... --installed 9 --size 96 \
//!     --background-sizes 96
//! ```
//!
//! The first `--installed` tasks are installed; each in turn is the stranger, once removed from the installed tasks and
//! from the background. The background is fitted to training images of all other tasks. Every task has a linear head.
//! Columns: stranger, area under the ROC curve of its images against those of the installed tasks, fraction noticed at 5 %
//! false alarms, fraction noticed and fraction of false alarms at the tasks' own limits. Then the fraction of images whose
//! own task is chosen, among the installed tasks and among all, with one background of all tasks; and the false alarms of
//! each task at its own limit. All with the test split.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use clr_adapters::{Background, Head, OwnScores, Preprocessing, Profile, Recipe};
use clr_learning::{LabelledFeatures, LogisticOptions, Network, fit_head, learn_background};
use clr_onnx::{Backbone, Preprocess as _, decode_image_for};
use clr_training::{Dataset, Split, SplitOptions, evenly_spaced};
use rayon::prelude::*;

/// Images of a task for its profile, its limits, the background and the test.
const LIMITS: [(Split, usize); 3] = [(Split::Train, 600), (Split::Validation, 400), (Split::Test, 2_000)];
const BACKGROUND: usize = 300;
const FALSE_ALARMS: f32 = 0.05;

struct Image {
    statistics: Vec<f32>,
    features: Vec<f32>,
}

struct Task {
    name: String,
    head: Head,
    train: Vec<Image>,
    validation: Vec<Image>,
    test: Vec<Image>,
    /// Statistics for the background, for each of its sizes.
    background: Vec<Vec<Vec<f32>>>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn compute(
    network: &Network,
    dataset: &Dataset,
    split: Split,
    most: usize,
    side: u32,
) -> Outcome<(Vec<Image>, LabelledFeatures)> {
    let input = Preprocessing {
        height: side,
        width: side,
        ..network.backbone().preprocessing().clone()
    };
    let samples = dataset.samples(split)?;
    let size = [side as usize; 2];
    let chosen: Vec<usize> = evenly_spaced(samples.len(), most).collect();
    let rows: Vec<_> = (chosen.into_par_iter())
        .filter_map(|at| {
            let sample = &samples[at];
            let image = decode_image_for(&dataset.root().join(&sample.path), &[&input]).ok()?;
            let values = input.preprocess(&image);
            let pass = network.unmodified(&values, size).ok()?;
            Some((pass.features, pass.block_statistics, sample.class as u32))
        })
        .collect();
    let (mut images, mut labelled) = (
        Vec::new(),
        LabelledFeatures {
            features: Vec::new(),
            labels: Vec::new(),
        },
    );
    for (features, statistics, label) in rows {
        images.push(Image {
            statistics,
            features: features.clone(),
        });
        labelled.features.push(features);
        labelled.labels.push(label);
    }
    Ok((images, labelled))
}

fn load(network: &Network, path: &Path, side: u32, background: &[u32]) -> Outcome<Task> {
    let dataset = Dataset::open(path, &SplitOptions::default())?;
    let mut sets = Vec::new();
    for (split, most) in LIMITS {
        sets.push(compute(network, &dataset, split, most, side)?);
    }
    let head: Head = fit_head(
        &sets[0].1,
        &sets[1].1,
        dataset.classes().len(),
        &LogisticOptions::default(),
        |_| (),
    )?
    .head;
    let mut kinds = Vec::new();
    for &side in background {
        let (images, _) = compute(network, &dataset, Split::Train, BACKGROUND, side)?;
        kinds.push(images.into_iter().map(|image| image.statistics).collect());
    }
    let [train, validation, test] = <[_; 3]>::try_from(sets)
        .map_err(|_| "three splits")?
        .map(|(images, _)| images);
    eprintln!(
        "{}: {} {} {}",
        path.display(),
        train.len(),
        validation.len(),
        test.len()
    );
    Ok(Task {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        head,
        train,
        validation,
        test,
        background: kinds,
    })
}

fn profile(background: &Background, task: &Task) -> Outcome<Profile> {
    let points = |images: &[Image]| {
        images
            .iter()
            .map(|image| background.coordinates(&image.statistics))
            .collect::<Vec<_>>()
    };
    let profile = Profile::learn_against(background, &points(&task.train)).ok_or("too few images")?;
    let profile = profile.rounded(profile.steps());
    let validation = points(&task.validation);
    let scores = validation
        .iter()
        .map(|point| profile.score_against(background, point))
        .collect();
    let logits: Vec<Vec<f32>> = task.validation.iter().map(|image| logits(&task.head, image)).collect();
    Ok(profile.with_scores(scores, &logits).ok_or("a score is not finite")?)
}

/// Returns the scores of test images for every profile: by image, by profile, without heads.
fn scores(background: &Background, profiles: &[Profile], task: &Task) -> Vec<Vec<f32>> {
    (task.test.par_iter())
        .map(|image| {
            let point = background.coordinates(&image.statistics);
            profiles
                .iter()
                .map(|profile| profile.score_against(background, &point))
                .collect()
        })
        .collect()
}

fn best(scores: &[f32], allowed: &[usize]) -> usize {
    *allowed
        .iter()
        .max_by(|&&a, &&b| scores[a].total_cmp(&scores[b]))
        .unwrap_or(&0)
}

fn logits(head: &Head, image: &Image) -> Vec<f32> {
    let rows = head.weight.chunks_exact(head.features).zip(&head.bias);
    rows.map(|(row, bias)| row.iter().zip(&image.features).map(|(w, x)| w * x).sum::<f32>() + bias)
        .collect()
}

/// Returns the out-of-distribution score of an image, with the contribution of the task's head.
fn ood(profile: &Profile, score: f32, task: &Task, image: &Image) -> f32 {
    let OwnScores::Ratios(ratios) = &profile.own_scores else {
        return f32::NAN;
    };
    let head = ratios.head.map_or(0.0, |head| head.score(&logits(&task.head, image)));
    ratios.ood_score(score + head, FALSE_ALARMS)
}

fn auroc(strange: &[f32], known: &[f32]) -> f64 {
    let mut known = known.to_vec();
    known.sort_by(f32::total_cmp);
    let wins: usize = strange
        .iter()
        .map(|value| known.partition_point(|other| other < value))
        .sum();
    wins as f64 / (strange.len() * known.len()) as f64
}

fn share(values: &[f32], above: f32) -> f64 {
    values.iter().filter(|&&value| value > above).count() as f64 / values.len().max(1) as f64
}

fn main() -> Outcome<()> {
    let (mut files, mut installed, mut side, mut sizes) = (Vec::<PathBuf>::new(), 9_usize, 96_u32, vec![96_u32]);
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} lacks its value"));
        match argument.as_str() {
            "--installed" => installed = value()?.parse()?,
            "--size" => side = value()?.parse()?,
            "--background-sizes" => sizes = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            _ => files.push(argument.into()),
        }
    }
    let [backbone, folders @ ..] = files.as_slice() else {
        return Err("usage: stranger_study BACKBONE.onnx TASK... [--installed N] [--size N]".into());
    };
    let network = Network::new(&Backbone::load(backbone)?, Recipe::Linear, 2, 0)?;
    let tasks = folders
        .iter()
        .map(|path| load(&network, path, side, &sizes))
        .collect::<Outcome<Vec<_>>>()?;
    let kinds = |without: Option<usize>| -> Vec<Vec<Vec<f32>>> {
        let kept = tasks.iter().enumerate().filter(|(at, _)| Some(*at) != without);
        kept.flat_map(|(_, task)| task.background.clone()).collect()
    };
    let digest = network.backbone().digest();
    let mut means = [0.0; 4];
    for stranger in 0..installed.min(tasks.len()) {
        let background = learn_background(digest, &kinds(Some(stranger)), 0)?;
        let others: Vec<usize> = (0..installed).filter(|&task| task != stranger).collect();
        let profiles = tasks
            .iter()
            .map(|task| profile(&background, task))
            .collect::<Outcome<Vec<_>>>()?;
        let judge = |task: usize| -> Vec<f32> {
            let all = scores(&background, &profiles, &tasks[task]);
            let judged = all.iter().zip(&tasks[task].test).map(|(scores, image)| {
                let chosen = best(scores, &others);
                ood(&profiles[chosen], scores[chosen], &tasks[chosen], image)
            });
            judged.collect()
        };
        let strange = judge(stranger);
        let known: Vec<f32> = others.iter().flat_map(|&task| judge(task)).collect();
        let mut sorted = known.clone();
        sorted.sort_by(f32::total_cmp);
        let limit = sorted[sorted.len() * 95 / 100];
        let row = [
            auroc(&strange, &known),
            share(&strange, limit),
            share(&strange, 1.0),
            share(&known, 1.0),
        ];
        println!(
            "{}\t{:.3}\t{:.1}\t{:.1}\t{:.1}",
            tasks[stranger].name,
            row[0],
            100.0 * row[1],
            100.0 * row[2],
            100.0 * row[3]
        );
        means
            .iter_mut()
            .zip(row)
            .for_each(|(mean, value)| *mean += value / installed as f64);
    }
    println!(
        "mean\t{:.3}\t{:.1}\t{:.1}\t{:.1}",
        means[0],
        100.0 * means[1],
        100.0 * means[2],
        100.0 * means[3]
    );
    let background = learn_background(digest, &kinds(None), 0)?;
    let profiles = tasks
        .iter()
        .map(|task| profile(&background, task))
        .collect::<Outcome<Vec<_>>>()?;
    for count in [installed, tasks.len()] {
        let allowed: Vec<usize> = (0..count).collect();
        let (mut right, mut alarms, mut worst) = (0.0, 0.0, (0.0, ""));
        for &task in &allowed {
            let all = scores(&background, &profiles, &tasks[task]);
            let chosen: Vec<usize> = all.iter().map(|scores| best(scores, &allowed)).collect();
            let own = chosen.iter().filter(|&&chosen| chosen == task).count() as f64 / chosen.len() as f64;
            let judged: Vec<f32> = (all.iter().zip(&tasks[task].test).zip(&chosen))
                .map(|((scores, image), &at)| ood(&profiles[at], scores[at], &tasks[at], image))
                .collect();
            let false_alarms = share(&judged, 1.0);
            println!(
                "of {count}\t{}\tright {:.1}\tfalse alarms {:.1}",
                tasks[task].name,
                100.0 * own,
                100.0 * false_alarms
            );
            right += own / count as f64;
            alarms += false_alarms / count as f64;
            if false_alarms > worst.0 {
                worst = (false_alarms, &tasks[task].name);
            }
        }
        println!(
            "of {count}\tmean\tright {:.1}\tfalse alarms {:.1}, at most {:.1} ({})",
            100.0 * right,
            100.0 * alarms,
            100.0 * worst.0,
            worst.1
        );
    }
    Ok(())
}
