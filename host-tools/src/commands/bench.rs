//! `clr bench`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clr_onnx::seeded_backbone;

use super::Context;
use crate::{
    bench::{
        CLASSES, Document, Machine, Peers, Step, StepComparison, StepJob, architecture, inference, load_time, print,
        run_step, step_in_own_process, switching,
    },
    destination::{try_output, write_atomically},
};

/// Measure this machine: latency, training step, switching, loading
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  host-tools/bench/setup.sh && clr bench -o bench.json\n  clr bench --models resnet18 --quick \
                        --no-peers\n\nRatios are ours over theirs, medians of one run on this machine: below 1 is faster, or \
                        less. Weights are random\n(seeded): only times and memory are of interest. Without the environment of \
                        host-tools/bench/setup.sh there are no ratios."
)]
pub(crate) struct BenchArgs {
    /// Architectures, comma-separated
    #[arg(
        long,
        default_value = "lite0,resnet18,resnet50",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    models: Vec<String>,
    /// Thread counts, comma-separated; 0 is all cores
    #[arg(long, default_value = "1,0", value_delimiter = ',', value_name = "N")]
    threads: Vec<usize>,
    /// Resident adapters while switching
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    adapters: u32,
    /// Pictures in a training step
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Input sizes of the training step, comma-separated
    #[arg(long, default_value = "224,96", value_delimiter = ',', value_name = "PIXELS")]
    step_sizes: Vec<u32>,
    /// Fewer repetitions
    #[arg(long)]
    quick: bool,
    /// Python with PyTorch and ONNX Runtime [default: the cache's bench-venv]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Measure ours alone
    #[arg(long, conflicts_with = "python")]
    no_peers: bool,
    /// Write the JSON document here too
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Run one training-step measurement in this process (used by the bench itself)
    #[arg(long, hide = true, value_name = "JSON")]
    probe: Option<String>,
}

pub(crate) fn run(args: &BenchArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    if let Some(probe) = &args.probe {
        let step = run_step(&serde_json::from_str(probe)?)?;
        context.output.line(&serde_json::to_string(&step)?)?;
        return Ok(0);
    }
    if let Some(path) = &args.output {
        try_output(path, 64 << 10)?;
    }
    let output = context.output;
    let models = (args.models.iter())
        .map(|model| {
            let kind = architecture(model).with_context(|| {
                format!("no architecture '{model}'\nhint: lite0, resnet18, resnet34, resnet50, mobilenet-v2")
            })?;
            Ok((model.as_str(), kind))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let peers = peers(args, context)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<usize> = args
        .threads
        .iter()
        .map(|&count| if count == 0 { cores } else { count })
        .collect();
    threads.dedup();
    let (seconds, steps) = if args.quick { (0.5, 3) } else { (3.0, 8) };
    let folder = tempfile::tempdir()?;
    let mut document = Document {
        machine: Machine::this(),
        peers: peers.as_ref().map(Peers::versions).transpose()?.unwrap_or_default(),
        inference: Vec::new(),
        training_step: Vec::new(),
        switching: None,
        loading: Vec::new(),
    };
    // First of all: memory freed by an earlier measurement would hide what adapters take.
    if let Some(&(model, kind)) = models.first() {
        tracing::info!("{model}: switching among {} adapters", args.adapters);
        let bar = output.bar(u64::from(args.adapters), "making adapters resident");
        let backbone = seeded_backbone(kind, 1, CLASSES);
        document.switching = Some(switching(model, &backbone, args.adapters as usize, &|| bar.inc(1))?);
        bar.finish_and_clear();
    }
    for &(model, kind) in &models {
        let backbone = seeded_backbone(kind, 1, CLASSES);
        for &threads in &threads {
            tracing::info!("{model}: latency, {threads} threads");
            document.inference.extend(inference(
                model,
                &backbone,
                threads,
                seconds,
                peers.as_ref(),
                folder.path(),
            )?);
        }
        tracing::info!("{model}: load time");
        document.loading.push(load_time(model, &backbone, folder.path())?);
        drop(backbone);
        for &size in &args.step_sizes {
            let job = StepJob {
                architecture: kind.name().to_owned(),
                size,
                batch: args.batch,
                threads: cores,
                steps,
            };
            tracing::info!("{model}: training step at {size} pixels");
            document.training_step.push(compare_step(job, peers.as_ref())?);
        }
    }
    if let Some(path) = &args.output {
        let text = crate::output::document("bench", &document)?;
        write_atomically(path, text.as_bytes())?;
    }
    if output.json {
        output.document("bench", &document)?;
    } else {
        print(&document, output)?;
    }
    Ok(0)
}

/// The peers, if there is an environment for them; asked for by name, a missing one is an error.
fn peers(args: &BenchArgs, context: &Context<'_>) -> anyhow::Result<Option<Peers>> {
    if args.no_peers {
        return Ok(None);
    }
    if let Some(python) = &args.python {
        return Peers::new(python.clone()).map(Some);
    }
    let python = context.cache()?.root().join("bench-venv/bin/python");
    if python.exists() {
        return Peers::new(python).map(Some);
    }
    tracing::warn!(
        "no Python at {}: no ratios; host-tools/bench/setup.sh makes the environment",
        python.display()
    );
    Ok(None)
}

fn compare_step(job: StepJob, peers: Option<&Peers>) -> anyhow::Result<StepComparison> {
    let ours = step_in_own_process(&job)?;
    let pytorch = peers.map(|peers| peers.pytorch(&job)).transpose()?;
    if let Some(theirs) = &pytorch
        && theirs.parameters != ours.parameters
    {
        anyhow::bail!(
            "{}: ours trains {} values, PyTorch {}",
            job.architecture,
            ours.parameters,
            theirs.parameters
        );
    }
    let memory = |theirs: &Step| Some(ours.peak_bytes? as f64 / theirs.peak_bytes? as f64);
    Ok(StepComparison {
        time_ratio: pytorch.as_ref().map(|theirs| ours.times.median / theirs.times.median),
        memory_ratio: pytorch.as_ref().and_then(memory),
        job,
        ours,
        pytorch,
    })
}
