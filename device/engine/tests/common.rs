//! Engines, inputs and comparisons shared by the tests.

use clr_engine::{Engine, EngineOptions, Kernels};
use clr_onnx::Backbone;

pub(crate) use crate::seeded::{Random, adapter, backbone};

pub(crate) fn engine(backbone: Backbone, threads: usize, kernels: Kernels) -> Engine {
    let options = EngineOptions::default().with_threads(threads).with_kernels(kernels);
    Engine::new(backbone, options).expect("the engine starts")
}

/// Returns a preprocessed random image of the backbone's input size.
pub(crate) fn image(backbone: &Backbone, seed: u64) -> Vec<f32> {
    let preprocessing = backbone.preprocessing();
    Random(seed).vector(3 * preprocessing.height as usize * preprocessing.width as usize)
}

/// Asserts that the logits agree within `tolerance` times the largest logit.
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
    for (class, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}: class {class}: expected {want}, got {got}, relative error {error}"
        );
    }
}
