//! Measuring this machine: our engine and training step, and the peers beside them.

mod inference;
mod memory;
mod peers;
mod report;
mod step;
mod switching;

pub(crate) use inference::{Inference, LoadTime, inference, load_time};
pub(crate) use peers::Peers;
pub(crate) use report::{Document, Machine, StepComparison, print};
pub(crate) use step::{Step, StepJob, run_step, step_in_own_process};
pub(crate) use switching::{Switching, switching};

use clr_adapters::{Adapter, ChannelOrder, Digest, Filter, Fit, Head, Header, Preprocessing, Provenance, Recipe};
use clr_onnx::{Architecture, Backbone, identity_adapter};
use serde::{Deserialize, Serialize};

/// Classes of the heads that are measured.
pub(crate) const CLASSES: usize = 10;

/// Times of one thing, in seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) best: f64,
    pub(crate) runs: usize,
}

impl Times {
    /// Runs `work` twice to warm up, then at least `least` times and `seconds` long.
    pub(crate) fn of(seconds: f64, least: usize, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        for _ in 0..2 {
            work()?;
        }
        let begin = std::time::Instant::now();
        let mut times = Vec::new();
        while times.len() < least || begin.elapsed().as_secs_f64() < seconds {
            let start = std::time::Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(Self {
            median: times[times.len() / 2],
            best: times[0],
            runs: times.len(),
        })
    }
}

/// The architectures that are measured, by command-line name.
pub(crate) fn architecture(name: &str) -> Option<Architecture> {
    match name {
        "lite0" => Some(Architecture::EfficientNetLite0),
        other => Architecture::from_name(other),
    }
}

/// An adapter of `recipe` for `backbone`, with its values moved a little so that no kernel is the identity.
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

/// `backbone` for pictures of `size` × `size`.
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
    use clr_onnx::seeded_backbone;

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
        assert_eq!((count, times.runs), (7, 5));
        assert!(times.best <= times.median);
    }
}
