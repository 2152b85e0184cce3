//! Benchmarks of inference, training step, loading and switching, with peers measured in the same run.

mod inference;
mod loading;
mod network;
mod peers;
mod report;
mod rounds;
mod step;
mod switching;
mod worker;

pub(crate) use inference::{Inference, InferenceJob, inference, serve_inference};
pub(crate) use loading::{LoadTime, load_time};
pub(crate) use network::Network;
pub(crate) use peers::{ENGINES, NotInstalled, PYTORCH, Peers};
pub(crate) use report::{Document, Failure, Machine, Summary, print};
pub(crate) use rounds::{Measured, Rounds, in_turns};
pub(crate) use step::{Step, StepJob, serve_step, training_step};
pub(crate) use switching::{Switching, switching};
pub(crate) use worker::Worker;

use clr_adapters::{
    Adapter, ChannelOrder, Digest, Filter, Fit, Head, Header, Preprocessing, Provenance, Recipe, SiteSteps, StepSize,
};
use clr_onnx::{Backbone, compacted, identity_adapter};
use serde::{Deserialize, Serialize};

/// Number of classes of the measured heads.
pub(crate) const CLASSES: usize = 10;

/// Job of a worker of this program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    Inference(InferenceJob),
    Step(StepJob),
}

impl Job {
    /// Runs the job in this process until stdin ends.
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        match self {
            Self::Inference(job) => serve_inference(job),
            Self::Step(job) => serve_step(job),
        }
    }
}

/// Times of one turn in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) best: f64,
    pub(crate) runs: usize,
    /// Peak resident memory of the process so far.
    pub(crate) peak_bytes: Option<u64>,
}

impl Times {
    /// Runs `work` at least `least` times, and for at least `seconds`.
    pub(crate) fn of(seconds: f64, least: usize, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let begin = std::time::Instant::now();
        let mut times = Vec::new();
        while times.len() < least.max(1) || begin.elapsed().as_secs_f64() < seconds {
            let start = std::time::Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(Self {
            median: times[times.len() / 2],
            best: times[0],
            runs: times.len(),
            peak_bytes: clr_training::peak_memory(),
        })
    }
}

/// Returns an adapter of `recipe` for `backbone`, with values close to the initial ones, but different enough that no
/// kernel is the identity.
pub(crate) fn some_adapter(backbone: &Backbone, recipe: Recipe, task: &str) -> Adapter {
    let features = backbone.feature_count();
    let mut state = Digest::of(task.as_bytes())
        .0
        .iter()
        .fold(1_u64, |state, &byte| state * 31 + u64::from(byte));
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 0.02
    };
    let head = Head {
        features,
        weight: (0..CLASSES * features).map(|_| noise()).collect(),
        bias: vec![0.0; CLASSES],
    };
    let labels = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let header = Header::new(
        task,
        labels,
        backbone.digest(),
        backbone.preprocessing().clone(),
        Provenance::HostTrained,
    );
    let mut adapter = identity_adapter(backbone, recipe, head, header);
    for site in &mut adapter.sites {
        if let clr_adapters::SiteWeights::Kernel(values) = &mut site.weights {
            for value in values {
                *value += noise();
            }
        }
    }
    adapter
}

/// Returns the adapter as a compact file stores it, with steps that are small enough for its noise.
pub(crate) fn compact(backbone: &Backbone, adapter: &Adapter) -> Adapter {
    let sites = SiteSteps {
        weights: StepSize(-32),
        bias: StepSize(-16),
    };
    compacted(backbone, adapter, sites, 0.3)
}

/// Returns a preprocessed image, `[3, height, width]`.
pub(super) fn image([height, width]: [u32; 2]) -> Vec<f32> {
    (0..3 * height * width)
        .map(|index| ((index * 37 % 255) as f32 - 127.0) / 64.0)
        .collect()
}

/// Returns `backbone` for images of `size` × `size`.
pub(crate) fn at_size(backbone: Backbone, size: u32) -> anyhow::Result<Backbone> {
    let preprocessing = Preprocessing {
        height: size,
        width: size,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        ..backbone.preprocessing().clone()
    };
    Ok(backbone.with_preprocessing(preprocessing)?)
}

#[cfg(test)]
mod tests {
    use clr_onnx::{Architecture, seeded_backbone};

    use super::*;

    #[test]
    fn the_measured_adapter_fits_its_backbone_and_is_no_identity() {
        let backbone = seeded_backbone(Architecture::ResNet18, 1, CLASSES);
        let adapter = some_adapter(&backbone, Recipe::Clr, "bench");
        clr_onnx::check_adapter(&backbone, &adapter).unwrap();
        assert_ne!(adapter, some_adapter(&backbone, Recipe::Clr, "other"));
    }

    #[test]
    fn times_are_counted_and_sorted() {
        let mut count = 0;
        let times = Times::of(0.0, 5, || {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((count, times.runs), (5, 5));
        assert!(times.best <= times.median);
    }
}
