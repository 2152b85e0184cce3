//! Latency of one picture, and the time from nothing to the first answer.

use std::{path::Path, time::Instant};

use clr_adapters::{Adapter, Encoding, Recipe};
use clr_engine::{Engine, EngineOptions};
use clr_onnx::Backbone;
use prost::Message as _;
use serde::Serialize;

use super::{Peers, Times, some_adapter};
use crate::destination::write_atomically;

/// One picture through one model.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Inference {
    pub(crate) model: String,
    pub(crate) size: u32,
    pub(crate) threads: usize,
    /// `linear`: the plain backbone with a head; `clr`: with an adapter at every site.
    pub(crate) recipe: Recipe,
    pub(crate) ours: Times,
    /// ONNX Runtime on the merged model.
    pub(crate) onnxruntime: Option<Times>,
    /// Ours over theirs, medians.
    pub(crate) ratio: Option<f64>,
}

/// Measures the plain backbone and one with an adapter.
pub(crate) fn inference(
    model: &str,
    backbone: &Backbone,
    threads: usize,
    seconds: f64,
    peers: Option<&Peers>,
    folder: &Path,
) -> anyhow::Result<Vec<Inference>> {
    let size = backbone.preprocessing().height;
    let engine = Engine::new(
        backbone.clone(),
        EngineOptions {
            threads,
            ..EngineOptions::default()
        },
    )?;
    let input = picture(size);
    let mut results = Vec::new();
    for recipe in [Recipe::Linear, Recipe::Clr] {
        let adapter = some_adapter(backbone, recipe, "bench");
        let resident = engine.prepare(&adapter)?;
        let ours = Times::of(seconds, 5, || {
            engine.logits(&resident, &input)?;
            Ok(())
        })?;
        let onnxruntime = match peers {
            Some(peers) => {
                let path = folder.join(format!("{model}-{recipe}-{size}.onnx"));
                if !path.exists() {
                    let merged = clr_onnx::merge(backbone, &adapter, [size as usize; 2])?;
                    write_atomically(&path, &merged.encode_to_vec())?;
                }
                Some(peers.onnxruntime(&path, size, threads, seconds)?)
            }
            None => None,
        };
        results.push(Inference {
            model: model.to_owned(),
            size,
            threads,
            recipe,
            ours,
            ratio: onnxruntime.map(|theirs| ours.median / theirs.median),
            onnxruntime,
        });
    }
    Ok(results)
}

/// From two files to the first answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadTime {
    pub(crate) model: String,
    /// Reading the backbone, in seconds.
    pub(crate) backbone: f64,
    /// Reading the adapter and building the plan.
    pub(crate) prepare: f64,
    pub(crate) first_answer: f64,
    pub(crate) total: f64,
    /// Making a second task of the same recipe ready.
    pub(crate) second_task: f64,
}

/// Measures loading, from files in `folder`.
pub(crate) fn load_time(model: &str, backbone: &Backbone, folder: &Path) -> anyhow::Result<LoadTime> {
    let path = folder.join(format!("{model}.onnx"));
    backbone.save(&path)?;
    let write = |task: &str| -> anyhow::Result<Vec<u8>> {
        Ok(clr_adapters::encode(
            &some_adapter(backbone, Recipe::Clr, task),
            Encoding::Int8,
        )?)
    };
    let (first, second) = (write("first")?, write("second")?);
    let read = |bytes: &[u8]| -> anyhow::Result<Adapter> { Ok(clr_adapters::decode(bytes)?.adapter) };
    let input = picture(backbone.preprocessing().height);
    let start = Instant::now();
    let engine = Engine::load(&path)?;
    let loaded = start.elapsed().as_secs_f64();
    let resident = engine.prepare(&read(&first)?)?;
    let prepared = start.elapsed().as_secs_f64();
    engine.logits(&resident, &input)?;
    let total = start.elapsed().as_secs_f64();
    let start = Instant::now();
    engine.prepare(&read(&second)?)?;
    Ok(LoadTime {
        model: model.to_owned(),
        backbone: loaded,
        prepare: prepared - loaded,
        first_answer: total - prepared,
        total,
        second_task: start.elapsed().as_secs_f64(),
    })
}

/// A preprocessed picture of some values.
pub(super) fn picture(size: u32) -> Vec<f32> {
    (0..3 * size * size)
        .map(|index| ((index * 37 % 255) as f32 - 127.0) / 64.0)
        .collect()
}
