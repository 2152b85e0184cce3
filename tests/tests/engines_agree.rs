//! candle and tract agree within 1e-3 relative, for every recipe on two architectures.

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use clr_engine::{Engine, EngineOptions};
use clr_onnx::{Architecture, Backbone, Preprocess as _, identity_adapter};
use clr_training::{CandleBackbone, Network};

use crate::fixtures::{SIDE, backbone, image, lite0, random_adapter, relative_difference};

fn candle_logits(backbone: &Backbone, adapter: &clr_adapters::Adapter, input: &[f32]) -> Vec<f32> {
    let network = Network::from_adapter(backbone, adapter).unwrap();
    let candle = CandleBackbone::new(backbone, &Device::Cpu).unwrap();
    let side = SIDE as usize;
    let x = Tensor::from_slice(input, (1, 3, side, side), &Device::Cpu).unwrap();
    candle
        .logits(&network, &x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn check(backbone: &Backbone) {
    let engine = Engine::new(backbone.clone(), EngineOptions::default()).unwrap();
    for recipe in Recipe::ALL {
        let adapter = random_adapter(backbone, recipe, "random", 5, 7);
        let resident = engine.prepare(&adapter).unwrap();
        for class in 0..3 {
            let input = adapter.header.preprocessing.preprocess(&image(class, 11));
            let tract = engine.logits(&resident, &input).unwrap();
            let candle = candle_logits(backbone, &adapter, &input);
            let difference = relative_difference(&candle, &tract);
            assert!(difference < 1e-3, "{} {recipe}: {difference}", backbone.name());
        }
    }
}

#[test]
fn every_recipe_on_lite0() {
    check(lite0());
}

#[test]
fn every_recipe_on_resnet18() {
    check(&backbone(Architecture::ResNet18, 2));
}

#[test]
fn an_identity_adapter_equals_the_backbone() {
    let backbone = lite0();
    let engine = Engine::new(backbone.clone(), EngineOptions::default()).unwrap();
    let original = backbone.original_adapter().unwrap();
    let reference = engine.prepare(&original).unwrap();
    let image = image(1, 3);
    let expected = engine.classify(&reference, &image).unwrap();
    for recipe in [Recipe::Bn, Recipe::Clr, Recipe::ClrScale, Recipe::ClrFull] {
        let mut header = original.header.clone();
        header.recipe = recipe;
        let identity = identity_adapter(backbone, recipe, original.head.clone(), header);
        let answer = engine.classify(&engine.prepare(&identity).unwrap(), &image).unwrap();
        let difference = relative_difference(answer.logits(), expected.logits());
        assert!(difference < 1e-5, "{recipe}: {difference}");
    }
}
