//! Adapters and inputs that do not fit are refused, each with a distinct error.

use clr_adapters::{Recipe, SiteWeights};
use clr_engine::{EngineError, Kernels};
use clr_onnx::{AdapterMismatch, Architecture, seeded_backbone};

use crate::common::{adapter, backbone, engine, image};

#[test]
fn an_adapter_of_another_backbone_is_refused() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let other = seeded_backbone(Architecture::MobileNetV2, 8, 10);
    let engine = engine(backbone, 1, Kernels::Fused);
    let error = engine.prepare(&adapter(&other, Recipe::Clr, "any", 3, 1)).unwrap_err();
    let EngineError::Adapter(AdapterMismatch::Backbone { expected, got, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!((*expected, *got), (engine.backbone().digest(), other.digest()));
    assert!(error.to_string().contains("\nhint: "), "{error}");
}

#[test]
fn wrong_sites_and_channels_are_refused() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let good = adapter(&backbone, Recipe::Clr, "any", 3, 1);
    let mut fewer = good.clone();
    fewer.sites.pop();
    let mut renamed = good.clone();
    renamed.sites[2].name = Some("other".to_owned());
    let mut short = good.clone();
    short.sites[0].bias.pop();
    let mut kind = good.clone();
    kind.sites[0].weights = SiteWeights::Scale(vec![1.0; kind.sites[0].bias.len()]);
    let mut head = good;
    head.head.features -= 1;
    for bad in [fewer, renamed, short, kind, head] {
        assert!(matches!(engine.prepare(&bad), Err(EngineError::Adapter(_))));
    }
}

#[test]
fn a_size_that_the_backbone_cannot_run_at_is_refused() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let mut adapter = adapter(&backbone, Recipe::Clr, "any", 3, 1);
    adapter.header.preprocessing.height = 0;
    assert!(matches!(
        engine.prepare(&adapter),
        Err(EngineError::Size { height: 0, .. })
    ));
}

#[test]
fn an_input_of_another_size_is_refused() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let resident = engine.prepare(&adapter(&backbone, Recipe::Clr, "any", 3, 1)).unwrap();
    let error = engine.logits(&resident, &[0.0; 12]).unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Input {
                expected: 3072,
                got: 12,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_non_finite_input_is_an_error() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let resident = engine.prepare(&adapter(&backbone, Recipe::Clr, "any", 3, 1)).unwrap();
    let mut input = image(&backbone, 1);
    input[1000] = f32::NAN;
    assert!(matches!(
        engine.logits(&resident, &input),
        Err(EngineError::NotFinite { .. })
    ));
}

#[test]
fn an_adapter_of_another_engine_is_refused() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let [one, two] = [Kernels::Fused, Kernels::Tract].map(|kernels| engine(backbone.clone(), 1, kernels));
    let resident = one.prepare(&adapter(&backbone, Recipe::Clr, "any", 3, 1)).unwrap();
    let error = two.logits(&resident, &image(&backbone, 1)).unwrap_err();
    assert!(matches!(error, EngineError::OtherEngine { .. }));
}
