//! Compares the fused kernels with tract's own operators, and an identity adapter with the unmodified backbone.

use clr_adapters::Recipe;
use clr_engine::Kernels;
use clr_onnx::{Architecture, identity_adapter};

use crate::common::{adapter, assert_close, backbone, engine, image};

#[test]
fn fused_plan_equals_tract_on_every_recipe() {
    for (architecture, size) in [
        (Architecture::ResNet18, 64),
        (Architecture::MobileNetV2, 64),
        (Architecture::EfficientNetLite0, 72),
    ] {
        let backbone = backbone(architecture, size);
        let input = image(&backbone, 3);
        let reference = engine(backbone.clone(), 1, Kernels::Tract);
        let fused = engine(backbone.clone(), 1, Kernels::Fused);
        for recipe in Recipe::ALL {
            let adapter = adapter(&backbone, recipe, "any", 10, 11);
            let want = reference.logits(&reference.prepare(&adapter).unwrap(), &input).unwrap();
            let got = fused.logits(&fused.prepare(&adapter).unwrap(), &input).unwrap();
            assert_close(&got, &want, 2e-4, &format!("{architecture:?}, {recipe}"));
        }
    }
}

#[test]
fn identity_adapter_equals_the_backbone() {
    for architecture in [Architecture::ResNet18, Architecture::EfficientNetLite0] {
        let backbone = backbone(architecture, 64);
        let engine = engine(backbone.clone(), 1, Kernels::Fused);
        let original = backbone.original_adapter().unwrap();
        let input = image(&backbone, 5);
        let want = engine.logits(&engine.prepare(&original).unwrap(), &input).unwrap();
        for recipe in Recipe::ALL {
            let identity = identity_adapter(&backbone, recipe, original.head.clone(), original.header.clone());
            let got = engine.logits(&engine.prepare(&identity).unwrap(), &input).unwrap();
            assert_close(&got, &want, 1e-5, &format!("{architecture:?}, {recipe}"));
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let backbone = backbone(Architecture::MobileNetV2, 64);
    let adapter = adapter(&backbone, Recipe::Clr, "any", 10, 11);
    let input = image(&backbone, 3);
    let answers = [1, 2, 5].map(|threads| {
        let engine = engine(backbone.clone(), threads, Kernels::Fused);
        engine.logits(&engine.prepare(&adapter).unwrap(), &input).unwrap()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn recipes_of_every_kind_share_one_plan_per_input_size() {
    let backbone = backbone(Architecture::ResNet18, 64);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    assert_eq!(engine.memory().plans, 0);
    let prepared: Vec<_> = [Recipe::Clr, Recipe::ClrScale, Recipe::Clr]
        .into_iter()
        .map(|recipe| engine.prepare(&adapter(&backbone, recipe, "any", 3, 1)).unwrap())
        .collect();
    assert_eq!((prepared.len(), engine.memory().plans), (3, 1));
    let weights = engine.memory().packed_weights;
    let mut larger = adapter(&backbone, Recipe::ClrFull, "any", 3, 1);
    engine.prepare(&larger).unwrap();
    assert_eq!((engine.memory().plans, engine.memory().packed_weights), (1, weights));
    (larger.header.preprocessing.height, larger.header.preprocessing.width) = (96, 96);
    engine.prepare(&larger).unwrap();
    let memory = engine.memory();
    assert_eq!(memory.plans, 2);
    assert!(
        memory.packed_weights >= weights,
        "weights are shared unless a size takes another form of them"
    );
}
