//! Networks whose parameters are rounded differences from the backbone.

use clr_adapters::{Encoding, Header, Provenance, Recipe, SiteSteps, StepSize, Steps, decode, encode};
use clr_onnx::Architecture;

use super::{
    fixtures::{disturb, noise},
    runtime::{learns_as_candle, network},
};
use crate::Network;

const HEAD: StepSize = StepSize(-22);

/// Returns a network of differences, with steps that round most of them.
fn rounded(architecture: Architecture, recipe: Recipe) -> Network {
    let mut network = network(architecture, recipe);
    network.make_differences().unwrap();
    disturb(&mut network, 0.05);
    let steps = (0..network.differences().count()).map(|site| SiteSteps {
        weights: StepSize(-18 + (site % 3) as i8),
        bias: StepSize(-16),
    });
    network.round(&steps.collect::<Vec<_>>(), HEAD);
    network
}

fn logits(network: &Network) -> Vec<Vec<f32>> {
    let batch: Vec<f32> = noise(2, 32).flatten_all().unwrap().to_vec1().unwrap();
    let images: Vec<&[f32]> = batch.chunks_exact(3 * 32 * 32).collect();
    network.logits(&images, [32; 2]).unwrap()
}

#[test]
fn the_runtime_and_candle_learn_the_same_rounded_differences() {
    for (architecture, recipe, side) in [
        (Architecture::EfficientNetLite0, Recipe::Clr, 40),
        (Architecture::ResNet18, Recipe::ClrFull, 33),
        (Architecture::MobileNetV2, Recipe::Bn, 32),
    ] {
        let mut network = rounded(architecture, recipe);
        learns_as_candle(&mut network, side, None, &format!("{architecture:?} {recipe}"));
    }
}

#[test]
fn differences_compute_the_function_of_the_sites_they_replace() {
    for recipe in [Recipe::Bn, Recipe::Clr, Recipe::ClrScale] {
        let mut network = network(Architecture::EfficientNetLite0, recipe);
        let before = logits(&network).concat();
        network.make_differences().unwrap();
        let largest = before.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (before, after) in before.iter().zip(logits(&network).concat()) {
            assert!((before - after).abs() < 1e-4 * largest, "{recipe}: {before} {after}");
        }
    }
}

#[test]
fn a_file_has_the_bits_of_the_rounded_network() {
    let network = rounded(Architecture::EfficientNetLite0, Recipe::Clr);
    let backbone = network.backbone();
    let labels = (0..network.classes()).map(|class| class.to_string()).collect();
    let preprocessing = backbone.preprocessing().clone();
    let mut header = Header::new(
        "task",
        labels,
        backbone.digest(),
        preprocessing,
        Provenance::HostTrained,
    );
    header.steps = Some(Steps {
        head: HEAD,
        profile_mean: StepSize(0),
        profile_factor: StepSize(0),
    });
    let file = encode(&network.to_adapter(header).unwrap(), Encoding::Compact).unwrap();
    let adapter = decode(&file).unwrap().adapter;
    let read = Network::from_adapter(backbone, &adapter).unwrap();
    assert_eq!(logits(&read), logits(&network));
    // Absolute values, as other engines compute with them, are the same as well.
    let absolute = clr_onnx::with_all_sites(backbone, &adapter);
    assert!(
        absolute
            .sites
            .iter()
            .all(|site| site.steps.is_none() && site.name.is_some())
    );
    assert_eq!(
        logits(&Network::from_adapter(backbone, &absolute).unwrap()),
        logits(&network)
    );
    assert_eq!(
        encode(&read.to_adapter(adapter.header).unwrap(), Encoding::Compact).unwrap(),
        file
    );
}

#[test]
fn gradients_pass_the_rounding_unchanged() {
    let mut exact = rounded(Architecture::EfficientNetLite0, Recipe::Clr);
    let on_steps = |network: &Network| {
        let parameters = network.parameters().into_iter();
        parameters.map(|parameter| parameter.values).collect::<Vec<_>>()
    };
    // Values that are multiples of the steps already are not changed by rounding.
    let file = exact.to_adapter(Header::new(
        "task",
        (0..exact.classes()).map(|class| class.to_string()).collect(),
        exact.backbone().digest(),
        exact.backbone().preprocessing().clone(),
        Provenance::HostTrained,
    ));
    exact.load_adapter(&file.unwrap()).unwrap();
    let before = on_steps(&exact);
    let mut moved = exact.clone();
    let quarter: Vec<Vec<f32>> = (before.iter().enumerate())
        .map(|(index, values)| {
            let step = 0.2 * StepSize(-18).size() as f32;
            let sign = if index % 2 == 0 { 1.0 } else { -1.0 };
            values.iter().map(|value| value + sign * step).collect()
        })
        .collect();
    // Only the differences: the head is not rounded here.
    moved.set_trainable(|name, _| !name.starts_with("head"));
    exact.set_trainable(|name, _| !name.starts_with("head"));
    moved.set_values(&quarter[2..]).unwrap();
    assert_eq!(logits(&moved), logits(&exact));
    assert_ne!(on_steps(&moved), on_steps(&exact));
}
