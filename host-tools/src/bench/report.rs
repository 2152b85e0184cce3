//! Result of the benchmarks: JSON document and tables.

use serde::Serialize;

use super::{Inference, LoadTime, Measured, NotInstalled, Step, Switching};
use crate::output::{Output, Table, human_bytes, human_time};

/// All measurements of a run.
#[derive(Serialize)]
pub(crate) struct Document {
    pub(crate) machine: Machine,
    /// Packages and their versions.
    pub(crate) peers: Vec<String>,
    pub(crate) not_installed: Vec<NotInstalled>,
    pub(crate) inference: Vec<Inference>,
    pub(crate) training_step: Vec<Step>,
    pub(crate) switching: Option<Switching>,
    pub(crate) loading: Vec<LoadTime>,
    /// Networks and sizes that could not be measured.
    pub(crate) failures: Vec<Failure>,
    pub(crate) summary: Summary,
}

/// The machine and its CPU.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) architecture: &'static str,
    pub(crate) os: &'static str,
    pub(crate) cores: usize,
    pub(crate) cpu: Option<String>,
}

/// A measurement that failed.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) model: String,
    pub(crate) measurement: String,
    pub(crate) reason: String,
}

/// Ratios over all networks.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Our time over the fastest peer's.
    pub(crate) inference: Option<Ratios>,
    /// Ours over PyTorch's.
    pub(crate) training_time: Option<Ratios>,
    pub(crate) training_memory: Option<Ratios>,
}

/// Median and worst of some ratios.
#[derive(Debug, Serialize)]
pub(crate) struct Ratios {
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) worst: f64,
    pub(crate) worst_model: String,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn this() -> Self {
        Self {
            architecture: std::env::consts::ARCH,
            os: std::env::consts::OS,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu(),
        }
    }
}

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

impl Summary {
    /// Summarises the ratios.
    pub(crate) fn new(inference: &[Inference], steps: &[Step]) -> Self {
        Self {
            inference: Ratios::of(inference.iter().map(|row| (row.ratio, &row.model))),
            training_time: Ratios::of(steps.iter().map(|row| (row.time_ratio, &row.model))),
            training_memory: Ratios::of(steps.iter().map(|row| (row.memory_ratio, &row.model))),
        }
    }
}

impl Ratios {
    fn of<'a>(ratios: impl Iterator<Item = (Option<f64>, &'a String)>) -> Option<Self> {
        let mut ratios: Vec<(f64, &String)> = ratios.filter_map(|(ratio, model)| Some((ratio?, model))).collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = ratios.len();
        let &(worst, model) = ratios.last()?;
        Some(Self {
            count,
            median: f64::midpoint(ratios[(count - 1) / 2].0, ratios[count / 2].0),
            worst,
            worst_model: model.clone(),
        })
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

/// Prints the tables.
pub(crate) fn print(document: &Document, output: &Output) -> std::io::Result<()> {
    let machine = &document.machine;
    let cpu = machine.cpu.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    let (os, architecture, cores) = (machine.os, machine.architecture, machine.cores);
    output.line(&format!("{os} {architecture}, {cores} cores{cpu}"))?;
    if !document.peers.is_empty() {
        output.line(&format!("peers: {}", document.peers.join(", ")))?;
    }
    print_inference(&document.inference, output)?;
    print_steps(&document.training_step, output)?;
    print_loading(&document.loading, output)?;
    if let Some(row) = &document.switching {
        print_switching(row, output)?;
    }
    print_notes(document, output)?;
    let summary = &document.summary;
    for (name, ratios) in [
        ("inference, clr / fastest peer", &summary.inference),
        ("training step, clr / PyTorch", &summary.training_time),
        ("memory of a training step, clr / PyTorch", &summary.training_memory),
    ] {
        if let Some(ratios) = ratios {
            output.line(&format!(
                "{name}: {} ratios, median {:.2}, worst {:.2} ({})",
                ratios.count, ratios.median, ratios.worst, ratios.worst_model
            ))?;
        }
    }
    Ok(())
}

fn print_inference(rows: &[Inference], output: &Output) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    output.line("\none image, best time of all rounds")?;
    let mut table = Table::new([
        "model",
        "pixels",
        "threads",
        "recipe",
        "clr",
        "onnxruntime",
        "openvino",
        "ncnn",
        "mnn",
        "best peer",
        "ratio",
        "difference",
    ]);
    for row in rows {
        let time = |name: &str| {
            let peer = row.peers.iter().find(|peer| peer.peer == name);
            peer.map_or_else(|| "-".to_owned(), |peer| human_time(peer.times.best))
        };
        let difference = row.peers.iter().map(|peer| peer.largest_difference).fold(0.0, f32::max);
        table.row([
            row.model.clone(),
            format!("{}×{}", row.size[0], row.size[1]),
            row.threads.to_string(),
            row.recipe.to_string(),
            human_time(row.ours.best),
            time("onnxruntime"),
            time("openvino"),
            time("ncnn"),
            time("mnn"),
            row.best_peer.unwrap_or("-").to_owned(),
            ratio(row.ratio),
            if row.peers.is_empty() {
                "-".to_owned()
            } else {
                format!("{difference:.0e}")
            },
        ]);
    }
    output.table(&table)
}

fn print_steps(rows: &[Step], output: &Output) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    output.line("\ntraining step (recipe clr: forward, backward, update), best time of all rounds")?;
    let mut table = Table::new([
        "model",
        "pixels",
        "batch",
        "threads",
        "clr",
        "PyTorch",
        "ratio",
        "memory",
        "PyTorch's",
        "ratio ",
    ]);
    for row in rows {
        let bytes = |times: &Measured| times.peak_bytes.map_or_else(|| "-".to_owned(), human_bytes);
        let theirs = row.pytorch.as_ref().map(|step| &step.times);
        table.row([
            row.model.clone(),
            row.size.to_string(),
            row.batch.to_string(),
            row.threads.to_string(),
            human_time(row.ours.times.best),
            theirs.map_or_else(|| "-".to_owned(), |times| human_time(times.best)),
            ratio(row.time_ratio),
            bytes(&row.ours.times),
            theirs.map_or_else(|| "-".to_owned(), bytes),
            ratio(row.memory_ratio),
        ]);
    }
    output.table(&table)
}

fn print_loading(rows: &[LoadTime], output: &Output) -> std::io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    output.line("\ntime from the files to the first result")?;
    let mut table = Table::new([
        "model",
        "backbone",
        "adapter and plan",
        "first result",
        "total",
        "a second task",
    ]);
    for row in rows {
        table.row([
            row.model.clone(),
            human_time(row.backbone),
            human_time(row.prepare),
            human_time(row.first_answer),
            human_time(row.total),
            human_time(row.second_task),
        ]);
    }
    output.table(&table)
}

fn print_switching(row: &Switching, output: &Output) -> std::io::Result<()> {
    output.line(&format!(
        "\nswitching among {} adapters of {}: median {}, p99 {}, worst {}",
        row.adapters,
        row.model,
        human_time(row.median),
        human_time(row.p99),
        human_time(row.worst)
    ))?;
    output.line(&format!(
        "memory per adapter: {} decoded, {} resident{}",
        human_bytes(row.decoded_bytes as u64),
        row.resident_bytes.map_or_else(|| "?".to_owned(), human_bytes),
        row.memory_ratio
            .map(|ratio| format!(", ratio {ratio:.2}"))
            .unwrap_or_default()
    ))
}

/// Prints the peers and networks that are missing from the tables.
fn print_notes(document: &Document, output: &Output) -> std::io::Result<()> {
    output.line("")?;
    for row in &document.inference {
        for left_out in &row.left_out {
            output.line(&format!("{}: no {}: {}", row.model, left_out.peer, left_out.reason))?;
        }
    }
    for row in &document.training_step {
        if let Some(reason) = &row.left_out {
            output.line(&format!("{}, {} px: no PyTorch: {reason}", row.model, row.size))?;
        }
        if let Some(theirs) = &row.pytorch
            && theirs.parameters != row.ours.parameters
        {
            output.line(&format!(
                "{}: clr trains {} values, PyTorch trains {} on {}",
                row.model, row.ours.parameters, theirs.parameters, theirs.network
            ))?;
        }
    }
    for failure in &document.failures {
        output.line(&format!(
            "{}: no {}: {}",
            failure.model, failure.measurement, failure.reason
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_worst_network_and_skips_what_has_no_ratio() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let ratios = [Some(0.5), None, Some(1.5), Some(0.7)];
        let ratios = Ratios::of(ratios.into_iter().zip(&names)).unwrap();
        assert_eq!((ratios.count, ratios.median, ratios.worst), (3, 0.7, 1.5));
        assert_eq!(ratios.worst_model, "c");
        assert!(Ratios::of([(None, &names[0])].into_iter()).is_none());
    }
}
