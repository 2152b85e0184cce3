//! An int8 adapter of EfficientNet-Lite0 with ten classes has at most 147 kB and gives the same results.

use clr_adapters::{Canary, Digest, Encoding, Metrics, Profile, Recipe, decode, encode};
use clr_engine::{Engine, EngineOptions};

use crate::fixtures::{image, lite0, random_adapter, relative_difference};

#[test]
fn a_complete_int8_adapter_of_lite0_fits_147_kilobytes() {
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
        seed: None,
    };
    adapter.header.canaries = vec![canary.clone(), canary];
    let features = |seed: usize| {
        (0..1280)
            .map(move |index| ((index + seed) * 7919 % 1013) as f32)
            .collect::<Vec<_>>()
    };
    let rows: Vec<Vec<f32>> = (0..200).map(|image| features(1280 * image)).collect();
    let profile = Profile::learn(rows.iter().map(Vec::as_slice), rows.iter().map(Vec::as_slice));
    adapter.header.profile = Some(profile.unwrap());
    let bytes = encode(&adapter, Encoding::Int8).unwrap();
    assert!(bytes.len() <= 147_000, "{} bytes", bytes.len());

    let engine = Engine::new(lite0().clone(), EngineOptions::default()).unwrap();
    let exact = engine.prepare(&adapter).unwrap();
    let quantised = engine.prepare(&decode(&bytes).unwrap().adapter).unwrap();
    for class in 0..4 {
        let image = image(class, 21);
        let (exact, quantised) = (
            engine.classify(&exact, &image).unwrap(),
            engine.classify(&quantised, &image).unwrap(),
        );
        let difference = relative_difference(quantised.logits(), exact.logits());
        assert!(difference < 0.05, "{difference}");
    }
}
