//! The body (picture by picture, in blocks) against candle (the whole batch, operator by operator).

use std::ops::Range;

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use clr_onnx::{Architecture, seeded_backbone};

use super::fixtures::{disturb, noise};
use crate::{
    Group, Mode, Network,
    evaluate::{cross_entropy, targets},
    network::Learned,
    with_threads,
};

const CLASSES: usize = 4;
const PICTURES: usize = 3;

fn pictures(side: usize) -> Tensor {
    noise(PICTURES, side)
}

/// A network away from the identity.
fn network(architecture: Architecture, recipe: Recipe) -> Network {
    let network = Network::new(&seeded_backbone(architecture, 1, 3), recipe, CLASSES, &Device::Cpu, 5).unwrap();
    disturb(&network, 0.05);
    network
}

fn objective(network: &Network, part: Range<usize>, features: &Tensor) -> Result<(Tensor, Tensor), crate::TrainError> {
    let targets = targets(&[0, 3, 1], CLASSES, 0.1, &Device::Cpu)?.narrow(0, part.start, part.len())?;
    let logits = network.classify(features, true)?;
    let loss = (cross_entropy(&logits, &targets)? * (part.len() as f64 / PICTURES as f64))?;
    Ok((logits, loss))
}

fn learn(network: &mut Network, side: usize, threads: usize) -> Learned {
    with_threads(threads, || network.learn(&pictures(side), Mode::Train, &objective)).unwrap()
}

fn gradients(network: &Network, learned: &Learned) -> Vec<(String, Option<Vec<f32>>)> {
    let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (network.parameters().unwrap().iter())
        .map(|parameter| (parameter.name.clone(), learned.gradients.get(&parameter.var).map(of)))
        .collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn the_body_learns_what_candle_learns() {
    let cases = [
        (Architecture::EfficientNetLite0, Recipe::Clr, 40),
        (Architecture::EfficientNetLite0, Recipe::ClrScale, 33),
        (Architecture::ResNet18, Recipe::Clr, 48),
        (Architecture::ResNet18, Recipe::Bn, 35),
        (Architecture::MobileNetV2, Recipe::Clr, 32),
    ];
    for (architecture, recipe, side) in cases {
        let mut network = network(architecture, recipe);
        let learned = learn(&mut network, side, 2);
        let own = gradients(&network, &learned);
        let features = network.training_features(&pictures(side), Mode::Train).unwrap();
        let (logits, loss) = objective(&network, 0..PICTURES, &features).unwrap();
        let candle = Learned {
            logits: logits.to_vec2().unwrap(),
            loss: loss.to_scalar().unwrap(),
            gradients: loss.backward().unwrap(),
        };
        assert!(
            (learned.loss - candle.loss).abs() < 1e-4 * candle.loss,
            "{} {}",
            learned.loss,
            candle.loss
        );
        let (own_logits, logits) = (learned.logits.concat(), candle.logits.concat());
        for (own, candle) in own_logits.iter().zip(&logits) {
            assert!((own - candle).abs() < 1e-3 * largest(&logits), "{own} {candle}");
        }
        let mut differences = Vec::new();
        for ((name, own), (_, want)) in own.into_iter().zip(gradients(&network, &candle)) {
            let (own, want) = (own.unwrap(), want.unwrap());
            let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let difference = norm(&mut own.iter().zip(&want).map(|(own, want)| own - want));
            differences.push((difference / norm(&mut want.iter().copied()), name));
        }
        // A pre-activation within rounding of a clamp's bound may fall on either side, which all layers below then see;
        // the layers above it stay exact.
        differences.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (usual, worst) = (&differences[differences.len() / 8], &differences[differences.len() - 1]);
        assert!(usual.0 < 1e-4, "{architecture:?} {recipe}: {usual:?}");
        assert!(worst.0 < 5e-2, "{architecture:?} {recipe}: {worst:?}");
        let inferred = network.features(&pictures(side)).unwrap();
        let want = network.features_in_candle(&pictures(side)).unwrap();
        let (inferred, want): (Vec<f32>, Vec<f32>) = (
            inferred.flatten_all().unwrap().to_vec1().unwrap(),
            want.flatten_all().unwrap().to_vec1().unwrap(),
        );
        for (own, candle) in inferred.iter().zip(&want) {
            assert!((own - candle).abs() < 1e-3 * largest(&want), "{own} {candle}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit_of_the_gradients() {
    let mut network = network(Architecture::EfficientNetLite0, Recipe::Clr);
    let learned = learn(&mut network, 32, 1);
    let one = gradients(&network, &learned);
    let learned = learn(&mut network, 32, 3);
    assert_eq!(one, gradients(&network, &learned));
    assert!(
        one.iter()
            .all(|(_, gradient)| gradient.as_ref().is_some_and(|gradient| largest(gradient) > 0.0))
    );
}

#[test]
fn what_is_not_trained_gets_no_gradient_in_the_body_either() {
    let mut network = network(Architecture::ResNet18, Recipe::Clr);
    network.train_only(|name, group| group == Group::Head || name.starts_with("layer4"));
    let learned = learn(&mut network, 32, 1);
    let with = gradients(&network, &learned);
    assert!(with.iter().any(|(name, _)| name.starts_with("layer4")));
    for (name, gradient) in with {
        assert!(name.starts_with("layer4") || name.starts_with("head"), "{name}");
        assert!(gradient.is_some_and(|gradient| largest(&gradient) > 0.0), "{name}");
    }
}
