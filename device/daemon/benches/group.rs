//! Benchmark of groups of tasks in the running program: the latency of a frame, compared with one task alone.
//!
//! EfficientNet-Lite0 at 224 px, one thread: `linear` tasks, and tasks that only reprogram the last block. All
//! selections take turns, because other programs may run on the machine. `cargo bench -p clr-daemon --bench group
//! [-- ROUNDS FRAMES]`.

#[expect(dead_code, reason = "other benchmarks need more of it")]
mod device;

use std::fs;

use clr_adapters::{Encoding, Recipe, encode};
use clr_onnx::{Architecture, Backbone, identity_adapter, seeded_backbone};
use clr_transfer::Kind;
use device::{Device, Result, quantiles};

/// Sites of EfficientNet-Lite0's last block and of the convolution after it.
const LAST_SITES: usize = 4;
/// Tasks of each kind.
const TASKS: usize = 8;
/// The measured selections: kind of tasks, number of tasks. The first is what others are compared with.
const SELECTIONS: [(&str, usize); 6] = [
    ("linear", 1),
    ("linear", 3),
    ("linear", 8),
    ("late", 1),
    ("late", 3),
    ("late", 8),
];

fn file(backbone: &Backbone, kind: &str, task: usize) -> Result<Vec<u8>> {
    let original = backbone.original_adapter().ok_or("no classifier")?;
    let (recipe, sites) = match kind {
        "linear" => (Recipe::Linear, 0),
        _ => (Recipe::Clr, LAST_SITES),
    };
    let mut adapter = identity_adapter(backbone, recipe, original.head, original.header);
    adapter.header.task = format!("{kind} {task}");
    adapter.sites.drain(..adapter.sites.len() - sites);
    Ok(encode(&adapter, Encoding::Compact)?)
}

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (rounds, frames) = (numbers.next().unwrap_or(30), numbers.next().unwrap_or(30));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("backbone.onnx");
    seeded_backbone(Architecture::EfficientNetLite0, 1, 10).save(&path)?;
    let backbone = Backbone::load(&path)?;
    fs::write(
        folder.path().join("device.toml"),
        "backbone = 'backbone.onnx'\nstate = 'state'\nthreads = 1\n[trust]\nunsigned = true\n[source]\nkind = 'stdin'\n",
    )?;
    let (device, _) = Device::start(folder.path().to_owned())?;
    for kind in ["linear", "late"] {
        for task in 0..TASKS {
            let file = file(&backbone, kind, task)?;
            device.host(|client| client.push(&file, Kind::Adapter, &mut |_| {}))?;
            device.host(|client| client.mark_good(&format!("{kind} {task}")))?;
        }
    }
    let mut fastest = [const { Vec::new() }; SELECTIONS.len()];
    let mut medians = [const { Vec::new() }; SELECTIONS.len()];
    for _ in 0..rounds {
        for (at, &(kind, count)) in SELECTIONS.iter().enumerate() {
            let tasks: Vec<String> = (0..count).map(|task| format!("{kind} {task}")).collect();
            device.host(|client| client.switch_group(&tasks))?;
            // The first frames may still belong to the former selection.
            device.latencies(3)?;
            let latencies = device.latencies(frames)?;
            fastest[at].push(latencies.iter().copied().fold(f64::INFINITY, f64::min));
            medians[at].push(quantiles(latencies).0);
        }
    }
    println!("{rounds} rounds of {frames} frames each; medians over the rounds of a round's fastest and median frame");
    println!("| tasks | fastest | compared | median | compared |\n|---|---|---|---|---|");
    let middle = |rounds: &[Vec<f64>], at: usize| quantiles(rounds[at].clone()).0;
    for (at, (kind, count)) in SELECTIONS.into_iter().enumerate() {
        let [fast, first] = [at, 0].map(|at| middle(&fastest, at));
        let [median, median_first] = [at, 0].map(|at| middle(&medians, at));
        println!(
            "| {count} `{kind}` | {fast:.2} ms | {:.2} | {median:.2} ms | {:.2} |",
            fast / first,
            median / median_first
        );
    }
    Ok(())
}
