//! The runtime (image by image, in blocks) compared with candle (the whole batch, operator by operator).

use std::ops::Range;

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use clr_onnx::{Architecture, seeded_backbone};

use super::fixtures::{disturb, noise};
use crate::{
    Group, Memory, Mode, Network,
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
fn the_runtime_learns_what_candle_learns() {
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
fn what_is_not_trained_gets_no_gradient_in_the_runtime_either() {
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

/// Starts and learns from them, with what the buffers were at most.
fn learn_from(network: &Network, side: usize, memory: Memory) -> (Learned, usize) {
    let values: Vec<f32> = pictures(side).flatten_all().unwrap().to_vec1().unwrap();
    let size = [side; 2];
    let starts: Vec<crate::PrefixActivations> = (values.chunks_exact(3 * side * side))
        .map(|picture| network.prefix(picture, size).unwrap())
        .collect();
    let starts: Vec<&crate::PrefixActivations> = starts.iter().collect();
    let learned = with_threads(1, || network.learn_from(&starts, size, memory, &objective)).unwrap();
    let executables = network.plan.executables.lock().unwrap();
    let most = executables
        .values()
        .flatten()
        .map(|executable| executable.peak_bytes())
        .sum();
    (learned, most)
}

#[test]
fn computing_again_changes_no_bit_and_takes_what_was_foretold() {
    for (architecture, first) in [
        (Architecture::EfficientNetLite0, 0),
        (Architecture::EfficientNetLite0, 20),
        (Architecture::ResNet18, 0),
        (Architecture::ResNet18, 12),
    ] {
        let (mut gradients_of_all, mut values) = (Vec::new(), Vec::new());
        for memory in [Memory::Keep, Memory::Recompute(2), Memory::Recompute(4)] {
            // A network of its own each time: buffers that an earlier run left behind would be counted.
            let mut network = network(architecture, Recipe::Clr);
            let names = network.site_names();
            let trained = &names[first..];
            network.train_only(|name, group| {
                group == Group::Head
                    || trained.iter().any(|site| {
                        name.strip_prefix(site.as_str())
                            .is_some_and(|rest| rest.starts_with('.'))
                    })
            });
            let footprint = network.footprint([48; 2], memory).unwrap();
            let (learned, most) = learn_from(&network, 48, memory);
            // Every picture's gradients of the sites wait for the others'; buffers that are given back on the way may make the first
            // picture's time the one of the most, when nothing waits yet.
            let waiting = (PICTURES - 1) * footprint.parameters / 2;
            let foretold = footprint.values + waiting;
            let least = if memory == Memory::Keep {
                foretold
            } else {
                footprint.values
            };
            assert!(
                (least..=foretold).contains(&most),
                "{architecture:?} from {first}, {memory:?}: {most}, foretold {least} to {foretold}"
            );
            values.push(footprint.values);
            let executables = network.plan.executables.lock().unwrap();
            let executable = executables.values().flatten().next().unwrap();
            let [packed, back, scratch] = executable.packed_bytes();
            let near = |got: usize, estimated: usize| got <= estimated && estimated <= got + got / 8 + (1 << 16);
            assert!(near(packed, footprint.weights), "{packed} {}", footprint.weights);
            assert!(
                near(back, footprint.gradient_weights),
                "{back} {}",
                footprint.gradient_weights
            );
            assert!(scratch <= footprint.scratch, "{scratch} {}", footprint.scratch);
            drop(executables);
            gradients_of_all.push((learned.loss, gradients(&network, &learned)));
        }
        assert!(
            gradients_of_all
                .iter()
                .all(|gradients| *gradients == gradients_of_all[0])
        );
        assert!(
            values.is_sorted_by(|more, less| more > less),
            "more segments take less: {values:?}"
        );
    }
}

#[test]
fn a_prefix_leads_to_the_features_of_the_image() {
    let mut network = network(Architecture::EfficientNetLite0, Recipe::Clr);
    let whole: Vec<f32> = network
        .features(&pictures(40))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let values: Vec<f32> = pictures(40).flatten_all().unwrap().to_vec1().unwrap();
    let names = network.site_names();
    for first in [0, 17, 30, names.len()] {
        network.train_only(|name, _| {
            names[first..].iter().any(|site| {
                name.strip_prefix(site.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            })
        });
        let start = network.prefix(&values[..3 * 40 * 40], [40; 2]).unwrap();
        assert_eq!(
            network.features_from(&start, [40; 2]).unwrap(),
            whole[..network.feature_count()]
        );
    }
}
