//! `clr bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clr_adapters::Recipe;

use super::Context;
use crate::{
    bench::{
        Document, ENGINES, Failure, Job, Machine, Network, PYTORCH, Peers, Rounds, Summary, inference, load_time,
        print, switching, training_step,
    },
    destination::{try_output, write_atomically},
};

/// Measure this machine: inference, training step, loading, switching
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  host-tools/bench/setup.sh && clr bench -o bench.json\n  clr bench --backbone mine.onnx \
                  --threads 1,4\n  clr bench --backbone net.onnx --torch resnet50 --measure training --step-sizes \
                  96\n\nA ratio is the best time of clr divided by that of a peer; below 1, clr is faster. Peers are \
                  ONNX Runtime, OpenVINO, ncnn and MNN for inference and PyTorch for training, each in its own \
                  process, all in float32. A peer counts only if its output equals that of clr within 1e-3 of its \
                  largest value. It runs the given file, or the model that `clr merge` writes if it cannot read the \
                  file. Networks of --models have random weights."
)]
pub(crate) struct BenchArgs {
    /// Networks to measure: any files that `clr import` accepts
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "models")]
    backbone: Vec<PathBuf>,
    /// torchvision's or timm's names of these files, in order [default: guessed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "backbone")]
    torch: Vec<String>,
    /// Architectures, comma-separated
    #[arg(
        long,
        default_value = "lite0,resnet18,resnet50",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    models: Vec<String>,
    /// Measurements, comma-separated [default: all; with --backbone: inference,training]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    measure: Vec<Measurement>,
    /// Recipes for inference, comma-separated; linear: no added operations
    #[arg(long, default_value = "linear,clr", value_delimiter = ',', value_parser = parse_recipe, value_name = "NAMES")]
    recipes: Vec<Recipe>,
    /// Thread counts of inference, comma-separated; 0 is all cores
    #[arg(long, default_value = "1", value_delimiter = ',', value_name = "N")]
    threads: Vec<usize>,
    /// Threads of the training step; 0 is all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    step_threads: usize,
    /// Images in a training step
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = parse_batch)]
    batch: usize,
    /// Input sizes of the training step, comma-separated
    #[arg(long, default_value = "224,96", value_delimiter = ',', value_name = "PIXELS")]
    step_sizes: Vec<u32>,
    /// Resident adapters while switching
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    adapters: u32,
    /// Rounds; each engine runs once per round
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..1000))]
    rounds: u32,
    /// Two short rounds
    #[arg(long)]
    quick: bool,
    /// Python with the peers [default: bench-venv in the cache]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Peers to compare with, comma-separated [default: all that are installed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = parse_peer)]
    peers: Vec<String>,
    /// Measure clr alone
    #[arg(long, conflicts_with_all = ["python", "peers"])]
    no_peers: bool,
    /// Also write the JSON document to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Run one network in this process (used by the bench itself)
    #[arg(long, hide = true, value_name = "JSON")]
    worker: Option<String>,
}

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    Inference,
    Training,
    Loading,
    Switching,
}

pub(crate) fn run(args: &BenchArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    if let Some(job) = &args.worker {
        serde_json::from_str::<Job>(job)?.serve()?;
        return Ok(0);
    }
    if let Some(path) = &args.output {
        try_output(path, 64 << 10)?;
    }
    let output = context.output;
    anyhow::ensure!(
        args.torch.len() <= args.backbone.len(),
        "--torch has {} names, expected at most {}: one for each file of --backbone\nhint: --torch resnet18,- leaves the \
         second file without a name",
        args.torch.len(),
        args.backbone.len()
    );
    let peers = peers(args, context)?;
    let mut document = Document {
        machine: Machine::this(),
        peers: peers.as_ref().map(|peers| peers.versions.clone()).unwrap_or_default(),
        not_installed: peers
            .as_ref()
            .map(|peers| peers.not_installed.clone())
            .unwrap_or_default(),
        inference: Vec::new(),
        training_step: Vec::new(),
        switching: None,
        loading: Vec::new(),
        failures: Vec::new(),
        summary: Summary::new(&[], &[]),
    };
    if args.backbone.is_empty() {
        // An unknown name is a usage error, and ends the run before the first measurement.
        let networks = (args.models.iter())
            .map(|name| Network::seeded(name))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for network in &networks {
            measure(network, args, peers.as_ref(), context, &mut document);
        }
    }
    for (index, file) in args.backbone.iter().enumerate() {
        let torch = args.torch.get(index).map(String::as_str).filter(|name| *name != "-");
        match Network::import(file, torch) {
            Ok(network) => measure(&network, args, peers.as_ref(), context, &mut document),
            Err(error) => document.fail(&file.display().to_string(), "import", &error),
        }
    }
    document.summary = Summary::new(&document.inference, &document.training_step);
    if let Some(path) = &args.output {
        let text = crate::output::document("bench", &document)?;
        write_atomically(path, text.as_bytes())?;
    }
    if output.json {
        output.document("bench", &document)?;
    } else {
        print(&document, output)?;
    }
    Ok(u8::from(!document.failures.is_empty()))
}

impl BenchArgs {
    fn measures(&self, measurement: Measurement) -> bool {
        if self.measure.is_empty() {
            return self.backbone.is_empty() || matches!(measurement, Measurement::Inference | Measurement::Training);
        }
        self.measure.contains(&measurement)
    }

    /// Returns the rounds for inference and for the training step.
    fn rounds(&self) -> [Rounds; 2] {
        let of = |count, seconds, least| Rounds { count, seconds, least };
        if self.quick {
            return [of(2, 0.1, 3), of(2, 0.0, 1)];
        }
        let count = self.rounds as usize;
        [of(count, 0.5, 5), of(count, 0.5, 2)]
    }
}

/// Runs all measurements of a network that `args` select, and records failures.
fn measure(network: &Network, args: &BenchArgs, peers: Option<&Peers>, context: &Context<'_>, document: &mut Document) {
    let name = &network.name;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = |count: usize| if count == 0 { cores } else { count };
    let [rounds, step_rounds] = args.rounds();
    // Switching is measured first, because memory freed by an earlier measurement would hide the adapters' memory.
    if args.measures(Measurement::Switching) && document.switching.is_none() {
        tracing::info!("{name}: switching among {} adapters", args.adapters);
        let bar = context.output.bar(u64::from(args.adapters), "loading adapters");
        match switching(name, &network.backbone, args.adapters as usize, &|| bar.inc(1)) {
            Ok(result) => document.switching = Some(result),
            Err(error) => document.fail(name, "switching", &error),
        }
        bar.finish_and_clear();
    }
    if args.measures(Measurement::Inference) {
        for &count in &args.threads {
            for &recipe in &args.recipes {
                let threads = threads(count);
                tracing::info!("{name}: inference, recipe {recipe}, {threads} threads");
                match inference(network, recipe, threads, rounds, peers) {
                    Ok(result) => document.inference.push(result),
                    Err(error) => document.fail(name, "inference", &error),
                }
            }
        }
    }
    if args.measures(Measurement::Loading) {
        tracing::info!("{name}: loading");
        let result = tempfile::tempdir().map_err(Into::into);
        match result.and_then(|folder| load_time(network, folder.path())) {
            Ok(result) => document.loading.push(result),
            Err(error) => document.fail(name, "loading", &error),
        }
    }
    if args.measures(Measurement::Training) {
        for &size in &args.step_sizes {
            tracing::info!("{name}: training step at {size} pixels");
            match training_step(
                network,
                size,
                args.batch,
                threads(args.step_threads),
                step_rounds,
                peers,
            ) {
                Ok(result) => document.training_step.push(result),
                Err(error) => document.fail(name, &format!("training step at {size} pixels"), &error),
            }
        }
    }
}

impl Document {
    fn fail(&mut self, model: &str, measurement: &str, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        tracing::error!("{model}: no {measurement}: {reason}");
        self.failures.push(Failure {
            model: model.to_owned(),
            measurement: measurement.to_owned(),
            reason,
        });
    }
}

/// Returns the peers, if their environment exists. If `args` name a peer that is missing, that is an error.
fn peers(args: &BenchArgs, context: &Context<'_>) -> anyhow::Result<Option<Peers>> {
    if args.no_peers {
        return Ok(None);
    }
    if let Some(python) = &args.python {
        return Peers::new(python.clone(), &args.peers).map(Some);
    }
    let python = context.cache()?.root().join("bench-venv/bin/python");
    if python.exists() {
        return Peers::new(python, &args.peers).map(Some);
    }
    anyhow::ensure!(
        args.peers.is_empty(),
        "no Python with peers at '{}'\nhint: host-tools/bench/setup.sh creates the environment; --python FILE selects \
         another",
        python.display()
    );
    tracing::warn!(
        "no Python at {}: no ratios\nhint: host-tools/bench/setup.sh creates the environment; --python FILE selects \
         another",
        python.display()
    );
    Ok(None)
}

fn parse_recipe(text: &str) -> Result<Recipe, String> {
    Recipe::from_name(text).ok_or_else(|| format!("expected one of {}", Recipe::ALL.map(Recipe::name).join(", ")))
}

fn parse_peer(text: &str) -> Result<String, String> {
    let mut peers = ENGINES.iter().chain([&PYTORCH]).map(|peer| peer.name);
    if peers.any(|name| name == text) {
        return Ok(text.to_owned());
    }
    Err("expected onnxruntime, openvino, ncnn, mnn or pytorch".to_owned())
}

fn parse_batch(text: &str) -> Result<usize, String> {
    let batch = text.parse().ok().filter(|batch| (1..=4_096).contains(batch));
    batch.ok_or_else(|| "expected 1 to 4096".to_owned())
}
