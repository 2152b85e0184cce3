//! Time of switching between a thousand resident adapters, and their memory.

use std::{hint::black_box, time::Instant};

use clr_adapters::{Encoding, Recipe};
use clr_engine::{Engine, EngineOptions, TaskSet};
use clr_onnx::Backbone;
use serde::Serialize;

use super::{compact, some_adapter};

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Switching {
    pub(crate) model: String,
    pub(crate) adapters: usize,
    /// Median time of a switch in seconds, including the clock's overhead.
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) worst: f64,
    pub(crate) switches: usize,
    /// Bytes of the adapter's decoded values.
    pub(crate) decoded_bytes: usize,
    /// Bytes of an adapter according to the engine.
    pub(crate) counted_bytes: usize,
    /// Growth of the process per adapter. Memory that the process had free before is not counted.
    pub(crate) resident_bytes: Option<u64>,
    /// `resident_bytes` over `decoded_bytes`.
    pub(crate) memory_ratio: Option<f64>,
}

/// Makes `adapters` tasks resident, each decoded separately, and switches between them.
pub(crate) fn switching(
    model: &str,
    backbone: &Backbone,
    adapters: usize,
    step: &dyn Fn(),
) -> anyhow::Result<Switching> {
    const SWITCHES: usize = 100_000;
    let engine = Engine::new(backbone.clone(), EngineOptions::default())?;
    let adapter = some_adapter(backbone, Recipe::Clr, "task 0");
    let decoded_bytes = adapter.decoded_bytes();
    // The first adapter includes the plan and everything else that exists only once.
    let counted_bytes = engine.prepare(&adapter)?.bytes();
    let bytes = clr_adapters::encode(&compact(backbone, &adapter), Encoding::Compact)?;
    let tasks = TaskSet::new();
    let before = clr_training::resident_memory();
    for index in 0..adapters {
        let mut adapter = clr_adapters::decode(&bytes)?.adapter;
        adapter.header.task = format!("task {index}");
        tasks.insert(engine.prepare(&adapter)?);
        step();
    }
    let after = clr_training::resident_memory();
    let names: Vec<String> = (0..adapters).map(|index| format!("task {index}")).collect();
    let mut times = Vec::with_capacity(SWITCHES);
    for index in 0..SWITCHES {
        // The stride is coprime to most counts, so the order of the visits is unrelated to the order in memory.
        let name = &names[index * 7_919 % names.len()];
        let start = Instant::now();
        black_box(tasks.switch(name)?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let resident_bytes = match (before, after) {
        (Some(before), Some(after)) => Some(after.saturating_sub(before) / adapters as u64),
        _ => None,
    };
    Ok(Switching {
        model: model.to_owned(),
        adapters,
        median: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        worst: times[times.len() - 1],
        switches: times.len(),
        decoded_bytes,
        counted_bytes,
        resident_bytes,
        memory_ratio: resident_bytes.map(|bytes| bytes as f64 / decoded_bytes as f64),
    })
}
