//! Arguments of `clr continual run`.

use std::path::PathBuf;

use clap::Args;
use clr_continual::registry::{self, Entry, METHODS};

use super::presets::Preset;
use crate::commands::parse_size;

/// Train methods on a sequence of tasks, and test after each task
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr continual run --backbone lite0.onnx --tasks signs,climate,furniture -o results/\n  clr continual run --backbone lite0.onnx --tasks signs,climate,furniture --methods sgd,ewc,er,clr --seeds 0,1,2 \
                  --tune digits,stamps,clipart -o results/\n  clr continual run --job 3 -o results/              one job of that run, by its index\n\n\
                  A run that was stopped continues with the same command, from each job's last complete task. Seed 0 learns the tasks in the given order; the others keep the first and permute the rest."
)]
pub(crate) struct RunArgs {
    /// Pretrained backbone (ONNX)
    #[arg(short, long, value_name = "FILE", required_unless_present = "job")]
    pub(super) backbone: Option<PathBuf>,
    /// Folders with train/, test/ and perhaps val/, comma-separated, in order
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',', required_unless_present = "job")]
    pub(super) tasks: Vec<PathBuf>,
    /// Methods, comma-separated, or `all`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all", value_parser = parse_method)]
    pub(super) methods: Vec<Methods>,
    /// Seeds, comma-separated
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0")]
    pub(super) seeds: Vec<u64>,
    /// Choose settings on these other tasks first, by validation images
    #[arg(long, value_name = "FOLDERS", value_delimiter = ',')]
    pub(super) tune: Vec<PathBuf>,
    /// Numbers of images, input size and epochs
    #[arg(long, value_enum, default_value_t = Preset::Study)]
    pub(super) preset: Preset,
    /// Input size in pixels [default: the preset's]
    #[arg(long, value_parser = parse_size, value_name = "N|HEIGHTxWIDTH")]
    pub(super) size: Option<[u32; 2]>,
    /// Maximum number of training images per task [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    pub(super) images: Option<u32>,
    /// Passes over the training images of a task [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) epochs: Option<u32>,
    /// Jobs, or trials of settings, to run in parallel; distorts measured times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) jobs: u32,
    /// Run only job INDEX of an existing plan, from 0
    #[arg(long, value_name = "INDEX", conflicts_with_all = ["backbone", "tasks", "tune"])]
    pub(super) job: Option<usize>,
    /// Write the plan without running it
    #[arg(long)]
    pub(super) plan_only: bool,
    /// Folder of the results
    #[arg(short, long, value_name = "FOLDER")]
    pub(super) output: PathBuf,
}

/// A method's name, or all.
#[derive(Clone, Debug)]
pub(super) enum Methods {
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

impl RunArgs {
    /// Returns the methods that were asked for, in the registry's order.
    pub(super) fn entries(&self) -> Vec<&'static Entry> {
        let wanted = |entry: &&Entry| {
            self.methods.iter().any(|method| match method {
                Methods::All => true,
                Methods::One(name) => *name == entry.name,
            })
        };
        METHODS.iter().filter(wanted).collect()
    }
}
