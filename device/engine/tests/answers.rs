//! Classification from an image to labels and probabilities.

use clr_adapters::Recipe;
use clr_engine::Kernels;
use clr_onnx::{Architecture, Preprocess as _, RgbImage};

use crate::common::{Random, adapter, backbone, engine};

fn photo(width: u32, height: u32) -> RgbImage {
    let mut random = Random(21);
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (random.value() * 20.0) as i32;
        let channels = [(x * 3) as i32 + noise, (y * 2) as i32, 128 + noise];
        image::Rgb(channels.map(|value| value.clamp(0, 255) as u8))
    })
}

#[test]
fn classify_preprocesses_exactly_as_the_shared_code_does() {
    let backbone = backbone(Architecture::MobileNetV2, 48);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let mut adapter = adapter(&backbone, Recipe::Clr, "birds", 7, 1);
    adapter.header.preprocessing.mean = [10.0, 20.0, 30.0];
    let resident = engine.prepare(&adapter).unwrap();
    for photo in [photo(100, 60), photo(48, 48), photo(31, 90)] {
        let answer = engine.classify(&resident, &photo).unwrap();
        let input = adapter.header.preprocessing.preprocess(&photo);
        assert_eq!(answer.logits(), engine.logits(&resident, &input).unwrap());
    }
}

#[test]
fn labels_follow_the_ranking() {
    let backbone = backbone(Architecture::MobileNetV2, 48);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let resident = engine.prepare(&adapter(&backbone, Recipe::Clr, "birds", 7, 1)).unwrap();
    let answer = engine.classify(&resident, &photo(80, 80)).unwrap();
    let top = answer.top(7);
    assert_eq!(top.len(), 7);
    for pair in top.windows(2) {
        assert!(pair[0].probability >= pair[1].probability);
        assert!(answer.logits()[pair[0].class] >= answer.logits()[pair[1].class]);
    }
    for ranked in &top {
        assert_eq!(ranked.label, format!("birds-{}", ranked.class));
    }
    assert!((top.iter().map(|ranked| ranked.probability).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn the_engine_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<clr_engine::Engine>();
    shared::<clr_engine::ResidentAdapter>();
    shared::<clr_engine::TaskSet>();
}
