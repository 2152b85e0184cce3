//! An int8 adapter of EfficientNet-Lite0 with ten classes takes at most 140 kB, and still gives the same answers.

use clr_adapters::{Canary, Digest, Encoding, Metrics, Recipe, decode, encode};
use clr_device::{Engine, EngineOptions};

use crate::fixtures::{lite0, picture, random_adapter, relative_difference};

#[test]
fn a_complete_int8_adapter_of_lite0_fits_140_kilobytes() {
    let mut adapter = random_adapter(lite0(), Recipe::Clr, "solar-cells", 10, 4);
    adapter.header.metrics = Some(Metrics {
        accuracy: 0.9,
        quantised_accuracy: 0.9,
        validation_images: 500,
        training_images: 5000,
        data: Digest::of(b"data"),
        seed: 1,
        created: 1_700_000_000,
    });
    let canary = Canary {
        size: [32, 32],
        pixels: vec![7; 3 * 32 * 32],
        class: 1,
        probability: 0.9,
    };
    adapter.header.canaries = vec![canary.clone(), canary];
    let bytes = encode(&adapter, Encoding::Int8).unwrap();
    assert!(bytes.len() <= 140_000, "{} bytes", bytes.len());

    let engine = Engine::new(lite0().clone(), EngineOptions::default()).unwrap();
    let exact = engine.prepare(&adapter).unwrap();
    let quantised = engine.prepare(&decode(&bytes).unwrap().adapter).unwrap();
    for class in 0..4 {
        let picture = picture(class, 21);
        let (exact, quantised) = (
            engine.classify(&exact, &picture).unwrap(),
            engine.classify(&quantised, &picture).unwrap(),
        );
        let difference = relative_difference(quantised.logits(), exact.logits());
        assert!(difference < 0.05, "{difference}");
    }
}
