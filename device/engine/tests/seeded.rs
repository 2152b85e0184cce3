//! Small backbones with random weights, and adapters that differ from the identity.

use clr_adapters::{Adapter, Head, Recipe, SiteWeights};
use clr_onnx::{Architecture, Backbone, identity_adapter, seeded_backbone};

/// Reproducible random values in −1…1, bit-identical on every platform.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn value(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / ((1u64 << 23) as f32) - 1.0
    }

    pub(crate) fn vector(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.value()).collect()
    }
}

/// Returns a backbone with seeded random weights for images of `size` × `size` pixels.
pub(crate) fn backbone(architecture: Architecture, size: u32) -> Backbone {
    let backbone = seeded_backbone(architecture, 7, 10);
    let preprocessing = clr_adapters::Preprocessing {
        height: size,
        width: size,
        ..backbone.preprocessing().clone()
    };
    backbone.with_preprocessing(preprocessing).expect("the size is valid")
}

/// Returns an adapter in which every parameter of `recipe` differs from the identity.
pub(crate) fn adapter(backbone: &Backbone, recipe: Recipe, task: &str, classes: usize, seed: u64) -> Adapter {
    let mut random = Random(seed);
    let features = backbone.feature_count();
    let head = Head {
        features,
        weight: random
            .vector(classes * features)
            .iter()
            .map(|value| value * 0.1)
            .collect(),
        bias: random.vector(classes),
    };
    let mut header = backbone
        .original_adapter()
        .expect("a seeded backbone has a classifier")
        .header;
    header.labels = (0..classes).map(|class| format!("{task}-{class}")).collect();
    task.clone_into(&mut header.task);
    let mut adapter = identity_adapter(backbone, recipe, head, header);
    for site in &mut adapter.sites {
        let (SiteWeights::Scale(weights) | SiteWeights::Kernel(weights)) = &mut site.weights;
        let scale = weights.iter().fold(0.0f32, |scale, weight| scale.max(weight.abs()));
        for weight in weights.iter_mut() {
            *weight += 0.05 * scale * random.value();
        }
        for bias in &mut site.bias {
            *bias += 0.05 * random.value();
        }
    }
    adapter
}
