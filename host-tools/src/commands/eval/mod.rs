//! `clr eval`.

mod choice;
mod roc;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use candle_core::Device;
use clap::{Args, ValueEnum};
use clr_adapters::Adapter;
use clr_engine::{Engine, EngineOptions, ResidentAdapter};
use clr_onnx::{Backbone, ImageError};
use clr_training::{Confidence, Dataset, Evaluation, Sample, ScanReport, Split, Unreadable, display_path};
use rayon::prelude::*;
use serde::Serialize;

use super::{Context, layout_args::LayoutArgs};
use crate::{
    backbones::{read_adapter, read_backbone},
    batches,
    device::DeviceArg,
    output::{Output, Table, human_time},
    scan_log,
};

/// Measure an adapter on labelled images, through the device engine
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr eval --backbone lite0.onnx --adapter birds.clr photos/ --split test\n  \
clr eval --backbone lite0.onnx --auto --adapter birds.clr --adapter signs.clr photos/ signs/"
)]
pub(crate) struct EvalArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// The adapter; with --auto one per DATA, in the same order
    #[arg(short, long, value_name = "FILE", required = true)]
    adapter: Vec<PathBuf>,
    /// Images in class folders
    #[arg(value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    /// Measure the choice of the task among all adapters, from the image alone
    ///
    /// Accuracy with the task given and chosen, and detection of images of a task that is not installed.
    #[arg(long)]
    auto: bool,
    /// With --auto: maximum number of images per DATA, evenly spaced
    #[arg(long, value_name = "N", requires = "auto")]
    limit: Option<usize>,
    /// With --auto: fraction of a task's own images that may be unknown
    #[arg(long, value_name = "FRACTION", default_value_t = 0.05, value_parser = parse_rate)]
    false_alarms: f32,
    /// Split of DATA to measure
    #[arg(long, value_enum, default_value_t = SplitArg::Test)]
    split: SplitArg,
    /// Fraction of the validation split, without a val/ folder; as in training
    #[arg(long, default_value_t = 0.2, value_name = "FRACTION")]
    validation: f32,
    /// Seed of the validation split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device: the device engine on the CPU, or the training network on a GPU
    #[arg(long, value_enum, default_value_t, value_name = "auto|cpu|cuda")]
    device: DeviceArg,
    #[command(flatten)]
    layout: LayoutArgs,
}

/// Parses a rate of false alarms, for which profiles have quantiles.
fn parse_rate(text: &str) -> Result<f32, String> {
    let rate = text.parse::<f32>().ok().filter(|rate| (0.005..=0.5).contains(rate));
    rate.ok_or_else(|| "expected a fraction from 0.005 to 0.5".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SplitArg {
    Train,
    Val,
    Test,
    All,
}

impl SplitArg {
    fn splits(self) -> &'static [Split] {
        match self {
            Self::Train => &[Split::Train],
            Self::Val => &[Split::Validation],
            Self::Test => &[Split::Test],
            Self::All => &[Split::Train, Split::Validation, Split::Test],
        }
    }
}

/// Result of a measurement.
#[derive(Serialize)]
pub(crate) struct Measured {
    task: String,
    #[serde(flatten)]
    pub(crate) evaluation: Evaluation,
    unreadable: Vec<String>,
    /// The unreadable files with reasons.
    #[serde(skip)]
    failures: Vec<Unreadable>,
    /// Temperature of the adapter, which divides the logits before the softmax.
    temperature: f32,
    /// Confidence and calibration error with this temperature.
    confidence: Confidence,
    /// The same with a temperature of 1.
    uncalibrated: Confidence,
    /// Wall time per image with all CPU cores (or the GPU) busy, including reading the file.
    #[serde(rename = "seconds_per_picture")]
    seconds_per_image: f64,
}

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    measured: Measured,
    scan: ScanReport,
}

pub(crate) fn run(args: &EvalArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let backbone = read_backbone(&args.backbone)?;
    if args.auto {
        return choice::run(args, backbone, context);
    }
    let ([adapter], [data]) = (args.adapter.as_slice(), args.data.as_slice()) else {
        anyhow::bail!(
            "got {} adapters and {} folders, expected one of each\nhint: --auto accepts several",
            args.adapter.len(),
            args.data.len()
        );
    };
    let adapter = read_adapter(adapter)?.adapter;
    let (dataset, samples) = open(args, data)?;
    let device = args.device.open()?;
    let measured = if device.is_cpu() {
        let engine = Engine::new(backbone, EngineOptions::default())?;
        let resident = engine.prepare(&adapter)?;
        measure(&engine, &resident, &dataset, &samples, context.output)?
    } else {
        measure_on(&device, &backbone, &adapter, &dataset, &samples, context.output)?
    };
    if context.output.json {
        let scan = dataset.report(args.split.splits(), &measured.failures);
        context.output.document("eval", &Document { measured, scan })?;
    } else {
        print(&measured, context.output)?;
    }
    Ok(0)
}

/// Returns the data and the samples of the requested split.
fn open(args: &EvalArgs, data: &Path) -> anyhow::Result<(Dataset, Vec<Sample>)> {
    let split = args.layout.split(args.validation, args.seed);
    let dataset = Dataset::open(data, &split)?;
    scan_log::log(&dataset.report(args.split.splits(), []));
    for note in dataset.notes() {
        tracing::warn!("{note}");
    }
    let hint = "hint: --split all takes every image";
    let samples: Vec<Sample> = match args.split {
        SplitArg::All => (args.split.splits().iter())
            .filter_map(|&split| dataset.samples(split).ok())
            .flatten()
            .cloned()
            .collect(),
        one => dataset
            .samples(one.splits()[0])
            .map_err(|error| anyhow::anyhow!("{error}\n{hint}"))?
            .to_vec(),
    };
    Ok((dataset, samples))
}

/// Classifies `samples` with the engine, one image per CPU core at a time. Classes are matched by name.
pub(crate) fn measure(
    engine: &Engine,
    adapter: &ResidentAdapter,
    dataset: &Dataset,
    samples: &[Sample],
    output: &Output,
) -> anyhow::Result<Measured> {
    let classes = class_map(dataset.classes(), adapter.labels())?;
    let bar = output.bar(samples.len() as u64, "evaluating");
    let start = Instant::now();
    let results: Vec<anyhow::Result<Result<Vec<f32>, ImageError>>> = samples
        .par_iter()
        .map(|sample| {
            let path = dataset.root().join(&sample.path);
            let result = match clr_onnx::decode_image_for(&path, &[adapter.preprocessing()]) {
                Ok(image) => Ok(Ok(engine.classify(adapter, &image)?.logits().to_vec())),
                Err(error) => Ok(Err(error)),
            };
            bar.inc(1);
            result
        })
        .collect();
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let of = (adapter.task(), adapter.labels(), adapter.temperature());
    summary(of, &classes, samples, results, seconds)
}

/// Does the same as [`measure`], with the training network on `device`.
fn measure_on(
    device: &Device,
    backbone: &Backbone,
    adapter: &Adapter,
    dataset: &Dataset,
    samples: &[Sample],
    output: &Output,
) -> anyhow::Result<Measured> {
    let header = &adapter.header;
    let classes = class_map(dataset.classes(), &header.labels)?;
    let files: Vec<PathBuf> = samples.iter().map(|sample| dataset.root().join(&sample.path)).collect();
    let bar = output.bar(samples.len() as u64, "evaluating");
    let start = Instant::now();
    let results = batches::logits(device, backbone, adapter, &files, |count| bar.inc(count as u64))?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let results = results.into_iter().map(Ok).collect();
    let of = (header.task.as_str(), header.labels.as_slice(), header.temperature);
    summary(of, &classes, samples, results, seconds)
}

/// Summarises the logits of all samples, with an error for each unreadable image. `classes` maps each class of the data
/// to the adapter's class.
fn summary(
    (task, names, temperature): (&str, &[String], f32),
    classes: &[usize],
    samples: &[Sample],
    results: Vec<anyhow::Result<Result<Vec<f32>, ImageError>>>,
    seconds: f64,
) -> anyhow::Result<Measured> {
    let (mut logits, mut labels, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for (sample, result) in samples.iter().zip(results) {
        match result.with_context(|| format!("'{}'", display_path(&sample.path)))? {
            Ok(result) => {
                logits.push(result);
                labels.push(classes[sample.class] as u32);
            }
            Err(error) => failures.push(Unreadable::new(sample.path.clone(), &error)),
        }
    }
    for file in &failures {
        tracing::warn!("skipped {file}");
    }
    anyhow::ensure!(!logits.is_empty(), "no image could be read");
    let evaluation = Evaluation::from_logits(logits, labels, names);
    Ok(Measured {
        task: task.to_owned(),
        temperature,
        confidence: evaluation.confidence(temperature),
        uncalibrated: evaluation.confidence(1.0),
        evaluation,
        unreadable: failures.iter().map(|file| display_path(&file.path)).collect(),
        failures,
        seconds_per_image: seconds / samples.len() as f64,
    })
}

/// Returns, for each class of the data, the adapter's class.
fn class_map(data: &[String], labels: &[String]) -> anyhow::Result<Vec<usize>> {
    data.iter()
        .map(|class| {
            labels.iter().position(|label| label == class).with_context(|| {
                format!(
                    "the data has class '{class}', the adapter has not\nhint: the adapter's classes are {}",
                    labels.iter().take(20).cloned().collect::<Vec<_>>().join(", ")
                )
            })
        })
        .collect()
}

fn print(measured: &Measured, output: &Output) -> std::io::Result<()> {
    let evaluation = &measured.evaluation;
    let mut table = Table::new(["class", "images", "recall", "precision"]);
    for class in evaluation.per_class.iter().filter(|class| class.images > 0) {
        table.row([
            class.label.clone(),
            class.images.to_string(),
            format!("{:.1} %", 100.0 * class.recall),
            format!("{:.1} %", 100.0 * class.precision),
        ]);
    }
    output.table(&table)?;
    output.line(&format!(
        "{}: accuracy {:.1} %, loss {:.3}, {} images, {} each",
        measured.task,
        100.0 * evaluation.accuracy,
        evaluation.loss,
        evaluation.images,
        human_time(measured.seconds_per_image)
    ))?;
    output.line(&format!(
        "mean confidence {:.1} %, calibration error {:.1} % (temperature {:.2}; without it {:.1} %)",
        100.0 * measured.confidence.mean,
        100.0 * measured.confidence.calibration_error,
        measured.temperature,
        100.0 * measured.uncalibrated.calibration_error
    ))?;
    if !measured.unreadable.is_empty() {
        output.line(&format!("{} images could not be read", measured.unreadable.len()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_matched_by_name_in_any_order() {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            class_map(&owned(&["a", "c"]), &owned(&["c", "b", "a"])).unwrap(),
            [2, 0]
        );
        let error = class_map(&owned(&["d"]), &owned(&["a"])).unwrap_err();
        assert!(error.to_string().contains("class 'd'"), "{error}");
    }
}
