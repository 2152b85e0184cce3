//! The bench's result: as a document, and as tables for people.

use serde::Serialize;

use super::{Inference, LoadTime, Step, StepJob, Switching};
use crate::output::{Output, Table, human_bytes, human_time};

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Document {
    pub(crate) machine: Machine,
    pub(crate) peers: Vec<String>,
    pub(crate) inference: Vec<Inference>,
    pub(crate) training_step: Vec<StepComparison>,
    pub(crate) switching: Option<Switching>,
    pub(crate) loading: Vec<LoadTime>,
}

/// Where it was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) architecture: &'static str,
    pub(crate) os: &'static str,
    pub(crate) cores: usize,
    pub(crate) processor: Option<String>,
}

/// A training step, ours and PyTorch's.
#[derive(Serialize)]
pub(crate) struct StepComparison {
    #[serde(flatten)]
    pub(crate) job: StepJob,
    pub(crate) ours: Step,
    pub(crate) pytorch: Option<Step>,
    pub(crate) time_ratio: Option<f64>,
    pub(crate) memory_ratio: Option<f64>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        Self {
            architecture: std::env::consts::ARCH,
            os: std::env::consts::OS,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor(),
        }
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// Prints the tables.
pub(crate) fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    let machine = &document.machine;
    output.line(&format!(
        "{} {}, {} cores{}",
        machine.os,
        machine.architecture,
        machine.cores,
        machine
            .processor
            .as_ref()
            .map(|name| format!(", {name}"))
            .unwrap_or_default()
    ))?;
    if !document.peers.is_empty() {
        output.line(&format!("peers: {}", document.peers.join(", ")))?;
    }
    output.line("\none picture")?;
    let mut table = Table::new(["model", "pixels", "threads", "recipe", "ours", "ONNX Runtime", "ratio"]);
    for row in &document.inference {
        table.row([
            row.model.clone(),
            row.size.to_string(),
            row.threads.to_string(),
            row.recipe.to_string(),
            human_time(row.ours.median),
            row.onnxruntime
                .map_or_else(|| "-".to_owned(), |times| human_time(times.median)),
            ratio(row.ratio),
        ]);
    }
    output.table(&table)?;
    output.line("\ntraining step (recipe clr: forward, backward, update)")?;
    let mut table = Table::new([
        "model",
        "pixels",
        "batch",
        "threads",
        "ours",
        "PyTorch",
        "ratio",
        "memory",
        "PyTorch's",
        "ratio ",
    ]);
    for row in &document.training_step {
        let bytes = |step: &Step| step.peak_bytes.map_or_else(|| "-".to_owned(), human_bytes);
        table.row([
            row.job.architecture.clone(),
            row.job.size.to_string(),
            row.job.batch.to_string(),
            row.job.threads.to_string(),
            human_time(row.ours.times.median),
            row.pytorch
                .as_ref()
                .map_or_else(|| "-".to_owned(), |step| human_time(step.times.median)),
            ratio(row.time_ratio),
            bytes(&row.ours),
            row.pytorch.as_ref().map_or_else(|| "-".to_owned(), bytes),
            ratio(row.memory_ratio),
        ]);
    }
    output.table(&table)?;
    output.line("\nfrom files to the first answer")?;
    let mut table = Table::new([
        "model",
        "backbone",
        "adapter and plan",
        "first answer",
        "total",
        "a second task",
    ]);
    for row in &document.loading {
        table.row([
            row.model.clone(),
            human_time(row.backbone),
            human_time(row.prepare),
            human_time(row.first_answer),
            human_time(row.total),
            human_time(row.second_task),
        ]);
    }
    output.table(&table)?;
    if let Some(row) = &document.switching {
        output.line(&format!(
            "\nswitching among {} adapters of {}: median {}, p99 {}, worst {}",
            row.adapters,
            row.model,
            human_time(row.median),
            human_time(row.p99),
            human_time(row.worst)
        ))?;
        output.line(&format!(
            "memory of one: {} decoded, {} resident{}",
            human_bytes(row.decoded_bytes as u64),
            row.resident_bytes.map_or_else(|| "?".to_owned(), human_bytes),
            row.memory_ratio
                .map(|ratio| format!(", ratio {ratio:.2}"))
                .unwrap_or_default()
        ))?;
    }
    Ok(())
}
