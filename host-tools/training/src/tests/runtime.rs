//! The runtime (image by image, in `NCHWc16` layout) compared with candle (a batch at once).

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use clr_learning::{Checkpointing, PrefixActivations};
use clr_onnx::{Architecture, seeded_backbone};

use super::fixtures::{disturb, mean_loss, noise};
use crate::{CandleBackbone, Group, Mode, Network, StepOutput, with_threads};

const CLASSES: usize = 4;
const LABELS: [u32; 3] = [0, 3, 1];
const IMAGES: usize = LABELS.len();

fn input(side: usize) -> Tensor {
    noise(IMAGES, side)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns a network with non-identity parameters.
pub(super) fn network(architecture: Architecture, recipe: Recipe) -> Network {
    let mut network = Network::new(&seeded_backbone(architecture, 1, 3), recipe, CLASSES, 5).unwrap();
    disturb(&mut network, 0.05);
    network
}

/// Returns dropout factors on the features of all images.
fn dropout(network: &Network) -> Vec<f32> {
    let factor = |index: usize| if index % 5 == 2 { 0.0 } else { 1.25 };
    (0..IMAGES * network.feature_count()).map(factor).collect()
}

fn step(network: &Network, side: usize, threads: usize, dropout: Option<&[f32]>) -> StepOutput {
    let batch = values(&input(side));
    let images: Vec<&[f32]> = batch.chunks_exact(3 * side * side).collect();
    with_threads(threads, || {
        Ok(network.forward_backward(&images, [side; 2], dropout, &mean_loss(&LABELS, CLASSES))?)
    })
    .unwrap()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn the_runtime_and_candle_learn_the_same() {
    let cases = [
        (Architecture::EfficientNetLite0, Recipe::Clr, 40, false),
        (Architecture::EfficientNetLite0, Recipe::ClrScale, 33, true),
        (Architecture::ResNet18, Recipe::Clr, 48, true),
        (Architecture::ResNet18, Recipe::Bn, 35, false),
        (Architecture::MobileNetV2, Recipe::Clr, 32, false),
    ];
    for (architecture, recipe, side, drops) in cases {
        let mut network = network(architecture, recipe);
        let mask = dropout(&network);
        let mask = drops.then_some(&mask[..]);
        learns_as_candle(&mut network, side, mask, &format!("{architecture:?} {recipe}"));
    }
}

/// Compares a step and the features of the runtime with candle's.
pub(super) fn learns_as_candle(network: &mut Network, side: usize, mask: Option<&[f32]>, case: &str) {
    let own = step(network, side, 2, mask);
    let candle = CandleBackbone::new(network.backbone(), &Device::Cpu).unwrap();
    let loss = mean_loss(&LABELS, CLASSES);
    let want = candle
        .forward_backward(network, &input(side), Mode::Train, mask, &loss)
        .unwrap();
    assert!(
        (own.loss - want.loss).abs() < 1e-4 * want.loss,
        "{} {}",
        own.loss,
        want.loss
    );
    let (own_logits, logits) = (own.logits.concat(), want.logits.concat());
    for (own, candle) in own_logits.iter().zip(&logits) {
        assert!((own - candle).abs() < 1e-3 * largest(&logits), "{own} {candle}");
    }
    let parameters = network.parameters();
    assert_eq!(
        (own.gradients.len(), want.gradients.len()),
        (parameters.len(), parameters.len())
    );
    let mut differences = Vec::new();
    for ((parameter, own), want) in parameters.iter().zip(own.gradients).zip(want.gradients) {
        let (own, want) = (own.unwrap(), want.unwrap());
        assert_eq!(
            (own.len(), want.len()),
            (parameter.values.len(), parameter.values.len())
        );
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let difference = norm(&mut own.iter().zip(&want).map(|(own, want)| own - want));
        differences.push((difference / norm(&mut want.iter().copied()), &parameter.name));
    }
    // If a pre-activation is within rounding of a clamp's bound, its gradient may be zero or not, which affects all
    // layers before it. The gradients of the layers after it stay exact.
    differences.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (usual, worst) = (&differences[differences.len() / 8], &differences[differences.len() - 1]);
    assert!(usual.0 < 1e-4, "{case}: {usual:?}");
    assert!(worst.0 < 5e-2, "{case}: {worst:?}");
    let batch = values(&input(side));
    let images: Vec<&[f32]> = batch.chunks_exact(3 * side * side).collect();
    let inferred = network.features(&images, [side; 2]).unwrap().concat();
    let want = values(&candle.features(network, &input(side)).unwrap());
    for (own, candle) in inferred.iter().zip(&want) {
        assert!((own - candle).abs() < 1e-3 * largest(&want), "{own} {candle}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit_of_the_gradients() {
    let network = network(Architecture::EfficientNetLite0, Recipe::Clr);
    let one = step(&network, 32, 1, None);
    assert_eq!(one, step(&network, 32, 3, None));
    assert!(
        one.gradients
            .iter()
            .all(|gradient| gradient.as_ref().is_some_and(|gradient| largest(gradient) > 0.0))
    );
}

#[test]
fn frozen_parameters_get_no_gradient_in_the_runtime() {
    let mut network = network(Architecture::ResNet18, Recipe::Clr);
    network.set_trainable(|name, group| group == Group::Head || name.starts_with("layer4"));
    let output = step(&network, 32, 1, None);
    let parameters = network.parameters();
    assert!(parameters.iter().any(|parameter| parameter.name.starts_with("layer4")));
    assert_eq!(parameters.len(), output.gradients.len());
    for (parameter, gradient) in parameters.iter().zip(output.gradients) {
        let name = &parameter.name;
        assert!(name.starts_with("layer4") || name.starts_with("head"), "{name}");
        let gradient = gradient.unwrap();
        assert_eq!(gradient.len(), parameter.values.len(), "{name}");
        assert!(largest(&gradient) > 0.0, "{name}");
    }
    // Only one of a site's parameters is trained, or only one of the head's.
    for kept in ["layer4.1.conv2.norm.bias", "head.bias"] {
        network.set_trainable(|name, _| name == kept);
        let output = step(&network, 32, 1, None);
        let lengths: Vec<_> = output.gradients.iter().flatten().map(Vec::len).collect();
        assert_eq!(lengths, [network.parameters()[0].values.len()], "{kept}");
    }
}

/// Computes prefix activations and a training step from them. Also returns the peak memory of the buffers.
fn step_from_prefix(network: &Network, side: usize, checkpointing: Checkpointing) -> (StepOutput, usize) {
    let batch = values(&input(side));
    let size = [side; 2];
    let prefixes: Vec<PrefixActivations> = (batch.chunks_exact(3 * side * side))
        .map(|image| network.prefix(image, size).unwrap())
        .collect();
    let prefixes: Vec<&PrefixActivations> = prefixes.iter().collect();
    let loss = mean_loss(&LABELS, CLASSES);
    let output = with_threads(1, || {
        Ok(network.forward_backward_from_prefix(&prefixes, size, checkpointing, &loss)?)
    })
    .unwrap();
    (output, network.executable(size).unwrap().peak_bytes())
}

/// Makes the head and the sites from index `first` on trainable.
fn train_from(network: &mut Network, first: usize) {
    let names = network.site_names();
    network.set_trainable(|name, group| {
        group == Group::Head
            || names[first..].iter().any(|site| {
                name.strip_prefix(site.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            })
    });
}

#[test]
fn recomputing_changes_no_bit_and_takes_the_estimated_memory() {
    for (architecture, first) in [
        (Architecture::EfficientNetLite0, 0),
        (Architecture::EfficientNetLite0, 20),
        (Architecture::ResNet18, 0),
        (Architecture::ResNet18, 12),
    ] {
        let (mut outputs, mut values) = (Vec::new(), Vec::new());
        for checkpointing in [
            Checkpointing::Off,
            Checkpointing::Segments(2),
            Checkpointing::Segments(4),
        ] {
            // Each run uses a new network, because buffers left by an earlier run would be counted.
            let mut network = network(architecture, Recipe::Clr);
            train_from(&mut network, first);
            let footprint = network.footprint([48; 2], checkpointing, IMAGES).unwrap();
            let (output, most) = step_from_prefix(&network, 48, checkpointing);
            // The gradients of the sites are stored for every image until the last image is finished. If buffers are
            // returned in the meantime, the peak may occur at the first images, when no gradients are stored yet.
            let waiting = (IMAGES - footprint.images) * footprint.parameters / 2;
            let foretold = footprint.values + waiting;
            let least = if checkpointing == Checkpointing::Off {
                foretold
            } else {
                footprint.values
            };
            assert!(
                (least..=foretold).contains(&most),
                "{architecture:?} from {first}, {checkpointing:?}: {most}, estimated {least} to {foretold}"
            );
            values.push(footprint.values);
            let [packed, back, scratch] = network.executable([48; 2]).unwrap().packed_bytes();
            let near = |got: usize, estimated: usize| got <= estimated && estimated <= got + got / 8 + (1 << 16);
            assert!(near(packed, footprint.weights), "{packed} {}", footprint.weights);
            assert!(
                near(back, footprint.gradient_weights),
                "{back} {}",
                footprint.gradient_weights
            );
            assert!(scratch <= footprint.scratch, "{scratch} {}", footprint.scratch);
            outputs.push(output);
        }
        assert!(outputs.iter().all(|output| *output == outputs[0]));
        assert!(
            values.is_sorted_by(|more, less| more > less),
            "more segments take less: {values:?}"
        );
    }
}

#[test]
fn a_prefix_leads_to_the_features_of_the_image() {
    let mut network = network(Architecture::EfficientNetLite0, Recipe::Clr);
    let batch = values(&input(40));
    let image = &batch[..3 * 40 * 40];
    let features = network.features(&[image], [40; 2]).unwrap().concat();
    for first in [0, 17, 30, network.site_names().len()] {
        train_from(&mut network, first);
        let prefix = network.prefix(image, [40; 2]).unwrap();
        assert_eq!(network.features_from_prefix(&prefix, [40; 2]).unwrap(), features);
    }
}

#[test]
fn an_image_of_another_size_is_refused() {
    let network = network(Architecture::ResNet18, Recipe::Bn);
    let error = network.features(&[&[0.0; 7]], [32; 2]).unwrap_err().to_string();
    assert!(
        error.contains("expected 3072 values") && error.contains("got 7"),
        "{error}"
    );
}

/// Runs one step on batch statistics with both, and returns the networks with their running averages.
fn on_batch(architecture: Architecture, recipe: Recipe, side: usize) -> [(StepOutput, Network); 2] {
    let (momentum, loss) = (0.1, mean_loss(&LABELS, CLASSES));
    let batch = values(&input(side));
    let images: Vec<&[f32]> = batch.chunks_exact(3 * side * side).collect();
    let mut own = network(architecture, recipe);
    let mut theirs = own.clone();
    let output = own
        .forward_backward_on_batch(&images, [side; 2], momentum, None, &loss)
        .unwrap();
    let candle = CandleBackbone::new(theirs.backbone(), &Device::Cpu).unwrap();
    let mode = Mode::TrainOnBatch { momentum };
    let want = candle
        .forward_backward(&mut theirs, &input(side), mode, None, &loss)
        .unwrap();
    [(output, own), (want, theirs)]
}

#[test]
fn the_runtime_and_candle_learn_the_same_on_batch_statistics() {
    for (architecture, recipe, side) in [
        (Architecture::EfficientNetLite0, Recipe::Clr, 64),
        (Architecture::ResNet18, Recipe::Clr, 64),
        (Architecture::ResNet18, Recipe::Bn, 48),
        (Architecture::MobileNetV2, Recipe::ClrScale, 64),
    ] {
        let [(own, network), (want, other)] = on_batch(architecture, recipe, side);
        assert!(
            (own.loss - want.loss).abs() < 1e-3 * want.loss,
            "{} {}",
            own.loss,
            want.loss
        );
        let parameters = network.parameters();
        assert_eq!(own.gradients.len(), want.gradients.len());
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let largest_gradient = (want.gradients.iter().flatten())
            .map(|gradient| norm(&mut gradient.iter().copied()))
            .fold(0.0, f64::max);
        let mut differences = Vec::new();
        for ((parameter, own), want) in parameters.iter().zip(&own.gradients).zip(&want.gradients) {
            let (own, want) = (own.as_ref().unwrap(), want.as_ref().unwrap());
            let difference = norm(&mut own.iter().zip(want).map(|(own, want)| own - want));
            // The gradient of a shift that a later norm cancels consists of rounding errors.
            let scale = norm(&mut want.iter().copied()) + 1e-2 * largest_gradient;
            differences.push((difference / scale, &parameter.name));
        }
        // Statistics of a dozen values and clamps magnify each rounding error from layer to layer: if one value of
        // 15,000 is on the other side of a bound, the difference is almost a hundredth. In clr-runtime, finite
        // differences show that the gradient is correct.
        let (head, sites) = differences.split_at(2);
        for exact in head.iter().chain(&sites[sites.len() - 4..]) {
            assert!(exact.0 < 2e-2, "{architecture:?} {recipe}: {exact:?}");
        }
        let worst = differences.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert!(worst.0 < 0.3, "{architecture:?} {recipe}: {worst:?}");
        let (own, want) = (network.snapshot(), other.snapshot());
        for (own, want) in own.values.iter().zip(&want.values) {
            for (a, b) in own.iter().zip(want) {
                assert!(
                    (a - b).abs() < 1e-3 * largest(want).max(1.0),
                    "{architecture:?} {recipe}: {a} {b}"
                );
            }
        }
    }
}

#[test]
fn the_runtime_and_candle_estimate_the_same_statistics() {
    let side = 48;
    let mut own = network(Architecture::EfficientNetLite0, Recipe::Clr);
    let mut theirs = own.clone();
    let batches = || (0..2).map(|_| Ok::<_, crate::TrainError>(values(&input(side))));
    own.estimate_statistics(batches(), [side; 2], 0.5).unwrap();
    let candle = CandleBackbone::new(theirs.backbone(), &Device::Cpu).unwrap();
    candle
        .estimate_statistics(&mut theirs, (0..2).map(|_| Ok(input(side))), 0.5)
        .unwrap();
    let (own, theirs) = (own.snapshot(), theirs.snapshot());
    for (own, want) in own.values.iter().zip(&theirs.values) {
        for (a, b) in own.iter().zip(want) {
            assert!((a - b).abs() < 1e-3 * largest(want).max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn a_loss_whose_gradient_does_not_fit_the_logits_is_refused() {
    let network = network(Architecture::ResNet18, Recipe::Linear);
    let image = vec![0.0; 3 * 32 * 32];
    let loss = |_: usize, _: &[f32]| (0.0, vec![0.0; CLASSES - 1]);
    let error = network.forward_backward(&[&image], [32; 2], None, &loss).unwrap_err();
    assert_eq!(error.to_string(), "the loss's gradient: expected 4, got 3");
}
