//! `clr continual run`.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use candle_core::Device;
use clap::Args;
use clr_continual::{
    ImageLimits, LearnerOptions, TaskData,
    registry::{self, Entry, METHODS},
    run::{Choice, Job, Plan, run_job, tune},
};
use clr_onnx::Backbone;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{PLAN, presets::Preset, read_plan};
use crate::{
    backbones::read_backbone,
    commands::{Context, parse_size},
    destination::{try_folder, write_atomically},
    output::{Output, Table},
};

/// Seed of the stream on which settings are chosen.
const TUNING_SEED: u64 = 100;

/// Learn tasks in turn by several methods and measure them after each
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr continual run --backbone lite0.onnx --tasks signs,emoji,fashion -o results/\n  clr continual run --backbone lite0.onnx --tasks signs,emoji,fashion --methods sgd,ewc,er,clr --seeds 0,1,2 \
                  --tune digits,stamps,clipart -o results/\n  clr continual run --job 3 -o results/              one job of that run, by its index\n\n\
                  A run that was stopped continues with the same command, from each job's last complete task. Seed 0 learns the tasks in the given order; the others keep the first and permute the rest."
)]
pub(crate) struct RunArgs {
    /// The frozen network (ONNX)
    #[arg(short, long, value_name = "FILE", required_unless_present = "job")]
    backbone: Option<PathBuf>,
    /// Folders with train/, val/ and test/, comma-separated, in order
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',', required_unless_present = "job")]
    tasks: Vec<PathBuf>,
    /// Methods, comma-separated, or `all`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all", value_parser = parse_method)]
    methods: Vec<Methods>,
    /// Seeds, comma-separated
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Choose settings on these other tasks first, on validation images
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',')]
    tune: Vec<PathBuf>,
    /// Numbers of images and epochs
    #[arg(long, value_enum, default_value_t = Preset::Study)]
    preset: Preset,
    /// Input size in pixels [default: the preset's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    size: Option<[u32; 2]>,
    /// Maximum number of training images per task [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    images: Option<u32>,
    /// Passes over the training images of a task [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: Option<u32>,
    /// Jobs that run at the same time; they share the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,
    /// Run one job of a plan that was written before, by its index
    #[arg(long, value_name = "INDEX", conflicts_with_all = ["backbone", "tasks", "tune"])]
    job: Option<usize>,
    /// Write the plan without running it
    #[arg(long)]
    plan_only: bool,
    /// Folder of the results
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// A method's name, or all.
#[derive(Clone, Debug)]
enum Methods {
    All,
    One(&'static str),
}

fn parse_method(text: &str) -> Result<Methods, String> {
    if text == "all" {
        return Ok(Methods::All);
    }
    let names: Vec<&str> = METHODS.iter().map(|entry| entry.name).collect();
    let found = registry::find(text).map(|entry| Methods::One(entry.name));
    found.ok_or_else(|| format!("expected `all` or some of {}", names.join(", ")))
}

/// The end of a run.
#[derive(Serialize)]
struct Document {
    results: PathBuf,
    jobs: Vec<FinishedJob>,
}

#[derive(Serialize)]
struct FinishedJob {
    index: usize,
    method: String,
    seed: u64,
    /// Mean accuracy on all tasks after the last one.
    final_mean: f64,
}

pub(crate) fn run(args: &RunArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    try_folder(&args.output, 256 << 20)?;
    let (plan, backbone) = match args.job {
        Some(index) => {
            let plan = read_plan(&args.output)?;
            anyhow::ensure!(
                index < plan.jobs.len(),
                "there is no job {index}\nhint: the plan has the jobs 0 to {}",
                plan.jobs.len() - 1
            );
            let backbone = resized(&plan.backbone, plan.size)?;
            check_backbone(&plan, &backbone)?;
            (plan, backbone)
        }
        None => planned(args, context)?,
    };
    if args.plan_only {
        context.output.line(&format!(
            "{}\t{} jobs",
            args.output.join(PLAN).display(),
            plan.jobs.len()
        ))?;
        return Ok(0);
    }
    let indices: Vec<usize> = args
        .job
        .map_or_else(|| (0..plan.jobs.len()).collect(), |index| vec![index]);
    let finished = run_jobs(
        &plan,
        &indices,
        &backbone,
        args.jobs as usize,
        &args.output,
        context.output,
    )?;
    let document = Document {
        results: args.output.clone(),
        jobs: finished,
    };
    if context.output.json {
        context.output.document("continual-run", &document)?;
    } else {
        for job in &document.jobs {
            context.output.line(&format!(
                "{}\tseed {}\t{:.1} %",
                job.method,
                job.seed,
                100.0 * job.final_mean
            ))?;
        }
        tracing::info!("`clr continual report {}` shows the results", args.output.display());
    }
    Ok(0)
}

/// Reads a backbone at another input size.
fn resized(path: &Path, size: [u32; 2]) -> anyhow::Result<Backbone> {
    let backbone = read_backbone(path)?;
    let mut preprocessing = backbone.preprocessing().clone();
    [preprocessing.height, preprocessing.width] = size;
    Ok(backbone.with_preprocessing(preprocessing)?)
}

fn check_backbone(plan: &Plan, backbone: &Backbone) -> anyhow::Result<()> {
    anyhow::ensure!(
        plan.backbone_digest == backbone.digest().to_string(),
        "'{}' is not the backbone of the plan: expected {}, got {}",
        plan.backbone.display(),
        plan.backbone_digest,
        backbone.digest()
    );
    Ok(())
}

/// Writes the plan, or reads the one that was written before.
fn planned(args: &RunArgs, context: &Context<'_>) -> anyhow::Result<(Plan, Backbone)> {
    let sizes = args.preset.sizes();
    let path = args.backbone.as_deref().context("no backbone")?;
    let size = args.size.unwrap_or(sizes.size);
    let backbone = resized(path, size)?;
    let mut plan = Plan {
        backbone: path.canonicalize()?,
        backbone_digest: backbone.digest().to_string(),
        tasks: absolute(&args.tasks)?,
        size,
        limits: ImageLimits {
            train: args.images.map_or(sizes.train, |images| images as usize),
            held_out: sizes.held_out,
        },
        epochs: args.epochs.map_or(sizes.epochs, |epochs| epochs as usize),
        batch: 16,
        jobs: Vec::new(),
    };
    let names = plan.names();
    if let Some(name) = names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(name))
    {
        anyhow::bail!("two tasks are called `{}`\nhint: rename one of the folders", name.1);
    }
    let entries = entries(&args.methods);
    let choices = choices(args, &entries, &plan, &backbone, context)?;
    for &seed in &args.seeds {
        for entry in &entries {
            let settings = match choices.iter().find(|choice| choice.method == entry.name) {
                Some(choice) => choice.tried[choice.best].settings.clone(),
                None => entry.defaults(),
            };
            plan.jobs.push(Job {
                method: entry.name.to_owned(),
                settings,
                seed,
            });
        }
    }
    let file = args.output.join(PLAN);
    if file.exists() {
        let mut known = read_plan(&args.output)?;
        let same = Plan {
            jobs: known.jobs.clone(),
            ..plan.clone()
        } == known;
        anyhow::ensure!(
            same,
            "'{}' is the plan of another run: its backbone, tasks or sizes differ\nhint: use another output folder",
            file.display()
        );
        for job in &plan.jobs {
            match known.jobs.iter().find(|other| other.folder() == job.folder()) {
                Some(other) => anyhow::ensure!(
                    other == job,
                    "'{}' has {} with other settings: {:?}, not {:?}\nhint: use another output folder",
                    file.display(),
                    job.folder(),
                    other.settings,
                    job.settings
                ),
                None => known.jobs.push(job.clone()),
            }
        }
        // Only the jobs that were asked for are run, in the plan's order.
        let wanted: Vec<String> = plan.jobs.iter().map(Job::folder).collect();
        known
            .jobs
            .sort_by_key(|job| wanted.iter().position(|folder| *folder == job.folder()));
        plan = known;
    }
    write_atomically(&file, (serde_json::to_string_pretty(&plan)? + "\n").as_bytes())?;
    Ok((plan, backbone))
}

fn absolute(folders: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let absolute = |folder: &PathBuf| {
        folder.canonicalize().with_context(|| {
            format!(
                "'{}' cannot be read\nhint: `clr fetch signs --to .` writes the task `signs` to the folder signs/",
                folder.display()
            )
        })
    };
    folders.iter().map(absolute).collect()
}

/// Returns the methods that were asked for, in the registry's order.
fn entries(methods: &[Methods]) -> Vec<&'static Entry> {
    let wanted = |entry: &&Entry| {
        methods.iter().any(|method| match method {
            Methods::All => true,
            Methods::One(name) => *name == entry.name,
        })
    };
    METHODS.iter().filter(wanted).collect()
}

/// Chooses settings on other tasks, or reads the choices that were made before.
fn choices(
    args: &RunArgs,
    entries: &[&'static Entry],
    plan: &Plan,
    backbone: &Backbone,
    context: &Context<'_>,
) -> anyhow::Result<Vec<Choice>> {
    let file = args.output.join("tuning.json");
    let mut choices: Vec<Choice> = if file.exists() {
        serde_json::from_str(&std::fs::read_to_string(&file)?).with_context(|| {
            format!(
                "'{}' is damaged\nhint: delete it, and settings are chosen again",
                file.display()
            )
        })?
    } else {
        Vec::new()
    };
    if args.tune.is_empty() {
        return Ok(choices);
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
            choices.push(choice);
            write_atomically(&file, (serde_json::to_string_pretty(&choices)? + "\n").as_bytes())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(choices)
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
fn run_jobs(
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
    let cells = cells.with_context(|| job.folder())?;
    let last: Vec<_> = cells.iter().filter(|cell| cell.after + 1 == plan.tasks.len()).collect();
    let sum: f64 = last
        .iter()
        .map(|cell| cell.correct as f64 / cell.total.max(1) as f64)
        .sum();
    let final_mean = sum / last.len().max(1) as f64;
    bar.suspend(|| tracing::info!("{}: {:.1} % on all tasks", job.folder(), 100.0 * final_mean));
    Ok(FinishedJob {
        index,
        method: job.method.clone(),
        seed: job.seed,
        final_mean,
    })
}

#[derive(Serialize)]
struct Listing {
    methods: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    name: &'static str,
    summary: &'static str,
    settings: Vec<(&'static str, &'static [f64])>,
}

/// Lists the methods.
pub(crate) fn list(context: &Context<'_>) -> anyhow::Result<u8> {
    if context.output.json {
        let methods = METHODS.iter().map(|entry| Item {
            name: entry.name,
            summary: entry.summary,
            settings: entry.grid.to_vec(),
        });
        context.output.document(
            "continual-methods",
            &Listing {
                methods: methods.collect(),
            },
        )?;
        return Ok(0);
    }
    let mut table = Table::new(["method", "what it does", "settings, the default first"]);
    for entry in METHODS {
        let settings = entry.grid.iter().map(|(name, values)| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            format!("{name} {}", values.join("|"))
        });
        let mut settings: Vec<String> = settings.collect();
        if entry.rate_of_sgd {
            settings.push("rate of sgd".to_owned());
        }
        table.row([entry.name.to_owned(), entry.summary.to_owned(), settings.join(", ")]);
    }
    context.output.table(&table)?;
    Ok(0)
}
