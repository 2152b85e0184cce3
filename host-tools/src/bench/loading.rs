//! Loading time: from two files to the first result.

use std::{path::Path, time::Instant};

use clr_adapters::{Adapter, Encoding, Recipe};
use clr_engine::Engine;
use serde::Serialize;

use super::{Network, compact, image, some_adapter};

/// Times of loading, in seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadTime {
    pub(crate) model: String,
    /// Reading the backbone.
    pub(crate) backbone: f64,
    /// Reading the adapter and building the plan.
    pub(crate) prepare: f64,
    pub(crate) first_answer: f64,
    pub(crate) total: f64,
    /// Preparing a second task of the same recipe.
    pub(crate) second_task: f64,
}

/// Measures loading, from files in `folder`.
pub(crate) fn load_time(network: &Network, folder: &Path) -> anyhow::Result<LoadTime> {
    let backbone = &network.backbone;
    let path = folder.join("backbone.onnx");
    backbone.save(&path)?;
    let write = |task: &str| -> anyhow::Result<Vec<u8>> {
        let adapter = compact(backbone, &some_adapter(backbone, Recipe::Clr, task));
        Ok(clr_adapters::encode(&adapter, Encoding::Compact)?)
    };
    let (first, second) = (write("first")?, write("second")?);
    let read = |bytes: &[u8]| -> anyhow::Result<Adapter> { Ok(clr_adapters::decode(bytes)?.adapter) };
    let input = image([backbone.preprocessing().height, backbone.preprocessing().width]);
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
        model: network.name.clone(),
        backbone: loaded,
        prepare: prepared - loaded,
        first_answer: total - prepared,
        total,
        second_task: start.elapsed().as_secs_f64(),
    })
}
