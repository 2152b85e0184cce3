//! `clr train`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use clr_adapters::{Calibration, Encoding, Recipe};
use clr_onnx::{Backbone, Stage};
use clr_training::{
    CompactOptions, Dataset, Evaluation, RecipeChoice, RecipeResult, ScanReport, Schedule, Split, TrainOptions,
    Trained, Unreadable, Warning, train,
};
use serde::Serialize;

use super::{
    Context,
    layout_args::LayoutArgs,
    parse_size,
    preprocessing::{self, PreprocessingArgs},
};
use crate::{
    backbones::read_backbone,
    destination::{try_folder, try_output},
    device::DeviceArg,
    learn::{Parity, Watcher, publish_checked, write_plots},
    output::{Table, human_bytes, human_time},
    scan_log,
};

/// Learn a task as an adapter
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr train --backbone lite0.onnx photos/ -o birds.clr\n  clr train --backbone lite0.onnx photos/ --recipe clr --epochs 30 --out-dir run/\n\nDATA is a folder of class folders, of splits (train/, val/, test/ in any usual spelling) with class folders, or of class folders with splits in each; --splits and --no-splits resolve ambiguity. The adapter is written only if the training network and the device engine agree on validation images (else exit code 3)."
)]
pub(crate) struct TrainArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE")]
    backbone: PathBuf,
    /// Images in class folders
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Adapter to write [default: <task>.clr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Recipe: auto, linear, bn, clr, clr-scale or clr-full
    #[arg(long, default_value = "auto", value_parser = parse_recipe, value_name = "RECIPE")]
    recipe: RecipeArg,
    /// Stage or site to begin at [default: the first site]
    ///
    /// Only the sites from there on are trained and stored. Stage 1 has the largest feature maps. Tasks that begin late
    /// share the forward pass up to there.
    #[arg(long, value_name = "STAGE|SITE")]
    from: Option<String>,
    /// Schedule to start from
    #[arg(long, value_enum, default_value_t = ScheduleArg::Default)]
    schedule: ScheduleArg,
    /// Epochs [default: the schedule's]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images per step [default: the schedule's]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Input size in pixels [default: the backbone's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Option<[u32; 2]>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Device for training
    #[arg(long, value_enum, default_value_t, value_name = "auto|cpu|cuda")]
    device: DeviceArg,
    /// Encoding of the adapter file
    ///
    /// Devices with a program from before format version 3 read only the others.
    #[arg(long, default_value = "compact", value_parser = parse_encoding, value_name = "compact|int8|f16|f32")]
    encoding: Encoding,
    /// Maximum bytes of a compact adapter file
    #[arg(long, value_name = "N")]
    bytes: Option<usize>,
    /// Leave out what a device needs to learn new classes of the task
    ///
    /// These are the means and the spread of the classes, a few kilobytes.
    #[arg(long)]
    without_class_features: bool,
    /// Fraction of training images for validation, without a val/ folder
    #[arg(long, default_value_t = 0.2, value_name = "FRACTION")]
    validation: f32,
    /// Folder for resume files; an interrupted run continues from it
    #[arg(long, value_name = "FOLDER")]
    resume: Option<PathBuf>,
    /// Folder for metrics.jsonl, learning-curve.svg and confusion.svg
    #[arg(long, value_name = "FOLDER")]
    out_dir: Option<PathBuf>,
    /// Name of the task in the adapter [default: the data folder's]
    #[arg(long, value_name = "NAME")]
    task_name: Option<String>,
    #[command(flatten)]
    layout: LayoutArgs,
    #[command(flatten)]
    preprocessing: PreprocessingArgs,
}

/// Bytes of space that are tested before training, which is more than an adapter needs.
const ADAPTER_BYTES: u64 = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecipeArg {
    Auto,
    Fixed(Recipe),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleArg {
    /// The paper's: 60 epochs, Adam 1e-3, no augmentation
    Paper,
    /// This project's: docs/reference/training.md
    Default,
}

#[derive(Serialize)]
struct Document<'a> {
    task: &'a str,
    recipe: Recipe,
    labels: &'a [String],
    adapter: &'a Path,
    bytes: usize,
    encoding: &'static str,
    validation: &'a Evaluation,
    quantised_validation: &'a Evaluation,
    test: Option<&'a Evaluation>,
    candidates: &'a [RecipeResult],
    temperature: f32,
    calibration: Option<Calibration>,
    parity: Parity,
    warnings: &'a [Warning],
    scan: ScanReport,
    plots: &'a [PathBuf],
    seconds: f64,
    peak_memory: Option<u64>,
}

pub(crate) fn run(args: &TrainArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let task = args.task_name.clone().unwrap_or_else(|| folder_name(&args.data));
    clr_adapters::check_task_name(&task)?;
    if args.bytes.is_some() && args.encoding != Encoding::Compact {
        bail!(
            "--bytes is for the encoding `compact`, got `{}`\nhint: leave out one of the two options",
            args.encoding
        );
    }
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{task}.clr")));
    try_output(&path, ADAPTER_BYTES)?;
    for folder in [&args.out_dir, &args.resume].into_iter().flatten() {
        try_folder(folder, ADAPTER_BYTES)?;
    }
    let backbone = args.preprocessing.apply(read_backbone(&args.backbone)?)?;
    preprocessing::log(&backbone);
    let split = args.layout.split(args.validation, args.seed);
    let dataset = Dataset::open(&args.data, &split)?;
    scan_log::images(&dataset.report(&SPLITS, []));
    let mut options = options(args).with_device(args.device.open()?);
    if let Some(from) = &args.from {
        options = options.with_first_site(first_site(&backbone, from, args.size)?);
    }
    let trained = {
        let mut watcher = Watcher::new(context.output, &task, args.out_dir.as_deref(), args.resume.is_some())?;
        train(&backbone, &dataset, &options, &mut watcher)?
    };
    let parity = publish_checked(&backbone, &trained.bytes, &trained.parity, &path)?;
    let plots = match &args.out_dir {
        Some(folder) => write_plots(&trained, folder)?,
        None => Vec::new(),
    };
    if context.output.json {
        let header = &trained.adapter.header;
        let document = Document {
            task: &header.task,
            recipe: header.recipe,
            labels: &header.labels,
            adapter: &path,
            bytes: trained.bytes.len(),
            encoding: args.encoding.name(),
            validation: &trained.validation,
            quantised_validation: &trained.quantised_validation,
            test: trained.test.as_ref(),
            candidates: &trained.candidates,
            temperature: header.temperature,
            calibration: header.calibration,
            parity,
            warnings: &trained.warnings,
            scan: dataset.report(&SPLITS, unreadable(&trained.warnings)),
            plots: &plots,
            seconds: trained.seconds,
            peak_memory: trained.peak_memory,
        };
        context.output.document("train", &document)?;
    } else {
        print(&trained, &path, parity, args.encoding, context)?;
    }
    Ok(0)
}

/// All splits are read, because the test split is evaluated at the end.
const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

fn unreadable(warnings: &[Warning]) -> impl Iterator<Item = &Unreadable> {
    warnings.iter().filter_map(|warning| match warning {
        Warning::Unreadable(file) => Some(file),
        _ => None,
    })
}

fn print(
    trained: &Trained,
    path: &Path,
    parity: Parity,
    encoding: Encoding,
    context: &Context<'_>,
) -> anyhow::Result<()> {
    let output = context.output;
    if trained.candidates.len() > 1 {
        let mut table = Table::new(["recipe", "validation", "loss", "bytes", "time", "chosen"]);
        for candidate in &trained.candidates {
            table.row([
                candidate.recipe.to_string(),
                format!("{:.1} %", 100.0 * candidate.accuracy),
                format!("{:.3}", candidate.loss),
                candidate.bytes.to_string(),
                human_time(candidate.seconds),
                if candidate.chosen { "yes" } else { "" }.to_owned(),
            ]);
        }
        output.table(&table)?;
    }
    output.line(&format!(
        "{}\t{}, {} classes, {} ({encoding})",
        path.display(),
        trained.adapter.header.recipe,
        trained.adapter.header.labels.len(),
        human_bytes(trained.bytes.len() as u64)
    ))?;
    output.line(&format!(
        "validation accuracy {:.1} % before and {:.1} % after quantisation, {} images",
        100.0 * trained.validation.accuracy,
        100.0 * trained.quantised_validation.accuracy,
        trained.validation.images
    ))?;
    if let Some(Calibration { before, after }) = trained.adapter.header.calibration {
        output.line(&format!(
            "temperature {:.2}: calibration error {:.1} % before and {:.1} % after",
            trained.adapter.header.temperature,
            100.0 * before,
            100.0 * after
        ))?;
    }
    if let Some(test) = &trained.test {
        output.line(&format!(
            "test accuracy {:.1} %, {} images",
            100.0 * test.accuracy,
            test.images
        ))?;
    }
    output.line(&format!(
        "training and engine agree within {:.1e} on {} validation images (allowed {:.0e})",
        parity.largest_difference, parity.images, parity.tolerance
    ))?;
    output.line(&format!(
        "{}{}",
        human_time(trained.seconds),
        trained
            .peak_memory
            .map(|bytes| format!(", at most {} of memory", human_bytes(bytes)))
            .unwrap_or_default()
    ))?;
    Ok(())
}

fn options(args: &TrainArgs) -> TrainOptions {
    let mut schedule = match args.schedule {
        ScheduleArg::Paper => Schedule::paper(),
        ScheduleArg::Default => Schedule::default(),
    };
    // A stated crop overrides the schedule.
    schedule.stretch &= !args.preprocessing.states_crop();
    if let Some(epochs) = args.epochs {
        schedule.epochs = epochs;
    }
    if let Some(batch) = args.batch {
        schedule.batch = batch;
    }
    TrainOptions::default()
        .with_task(args.task_name.clone())
        .with_recipe(match args.recipe {
            RecipeArg::Auto => RecipeChoice::default(),
            RecipeArg::Fixed(recipe) => RecipeChoice::Fixed(recipe),
        })
        .with_schedule(schedule)
        .with_seed(args.seed)
        .with_threads(args.threads)
        .with_resolution(args.size)
        .with_encoding(args.encoding)
        .with_compact(
            CompactOptions::default()
                .with_bytes(args.bytes)
                .with_class_features(!args.without_class_features),
        )
        .with_resume(args.resume.clone())
}

/// Returns the index of the site that `--from` names.
fn first_site(backbone: &Backbone, from: &str, size: Option<[u32; 2]>) -> anyhow::Result<usize> {
    let preprocessing = backbone.preprocessing();
    let size = size.unwrap_or([preprocessing.height, preprocessing.width]);
    let stages = backbone.stages(size.map(|side| side as usize))?;
    let found = match from.parse::<usize>() {
        Ok(stage) => stage
            .checked_sub(1)
            .and_then(|index| Some(stages.get(index)?.first_site)),
        Err(_) => backbone.sites().iter().position(|site| site.name == from),
    };
    if let Some(first) = found {
        tracing::info!("training begins at site {}, `{}`", first, backbone.sites()[first].name);
        return Ok(first);
    }
    let sizes: Vec<String> = (stages.iter().zip(1..))
        .map(
            |(
                Stage {
                    size: [height, width], ..
                },
                stage,
            )| format!("{stage} ({height}×{width})"),
        )
        .collect();
    bail!(
        "--from {from}: no such stage or site; stages by feature map: {}\nhint: `clr inspect BACKBONE --sites` lists the sites",
        sizes.join(", ")
    )
}

fn folder_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name()
        .map_or_else(|| "task".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn parse_recipe(text: &str) -> Result<RecipeArg, String> {
    if text == "auto" {
        return Ok(RecipeArg::Auto);
    }
    Recipe::from_name(text)
        .map(RecipeArg::Fixed)
        .ok_or_else(|| format!("expected auto, {}", Recipe::ALL.map(Recipe::name).join(", ")))
}

fn parse_encoding(text: &str) -> Result<Encoding, String> {
    Encoding::from_name(text).ok_or_else(|| "expected compact, int8, f16 or f32".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(arguments: &[&str]) -> TrainArgs {
        let all = ["clr", "train", "--backbone", "b.onnx", "data"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Train(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_preset_gives_the_schedule_and_options_override_it() {
        let paper = options(&parse(&["--schedule", "paper"]));
        assert_eq!(paper.schedule, Schedule::paper());
        let short = options(&parse(&["--schedule", "paper", "--epochs", "3", "--batch", "8"]));
        assert_eq!((short.schedule.epochs, short.schedule.batch), (3, 8));
    }

    #[test]
    fn recipes_and_encodings_are_read_by_name() {
        let args = parse(&["--recipe", "clr-scale", "--encoding", "f16", "--size", "96"]);
        assert_eq!(args.recipe, RecipeArg::Fixed(Recipe::ClrScale));
        assert_eq!(args.encoding, Encoding::F16);
        assert_eq!(args.size, Some([96, 96]));
        assert!(Cli::try_parse_from(["clr", "train", "--backbone", "b", "d", "--recipe", "all"]).is_err());
    }
}
