//! The network compared with the backbone and with its folded form, and its gradients.

use candle_core::{Device, Tensor};
use clr_adapters::{Digest, Header, Provenance, Recipe};

use super::fixtures::{SIDE, backbone, disturb, mean_loss, noise};
use crate::{CandleBackbone, Group, Mode, Network, StepOutput};

fn input(count: usize) -> Tensor {
    noise(count, SIDE as usize)
}

fn network(recipe: Recipe) -> Network {
    Network::new(&backbone(), recipe, 3, 5).unwrap()
}

fn candle() -> CandleBackbone {
    CandleBackbone::new(&backbone(), &Device::Cpu).unwrap()
}

fn header() -> Header {
    Header::new(
        "t",
        vec!["a".into(), "b".into(), "c".into()],
        Digest::of(b""),
        backbone().preprocessing().clone(),
        Provenance::HostTrained,
    )
}

fn relative_difference(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    largest(&(a - b).unwrap()) / largest(b).max(1e-12)
}

fn step(candle: &CandleBackbone, network: &mut Network, mode: Mode) -> StepOutput {
    let loss = mean_loss(&[0, 1, 2, 1], 3);
    candle.forward_backward(network, &input(4), mode, None, &loss).unwrap()
}

#[test]
fn every_recipe_starts_as_the_backbone() {
    let (x, candle) = (input(3), candle());
    let features = |recipe| candle.features(&network(recipe), &x).unwrap();
    let frozen = features(Recipe::Linear);
    assert!(frozen.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.1);
    for recipe in Recipe::ALL {
        let difference = relative_difference(&features(recipe), &frozen);
        assert!(difference < 1e-5, "{recipe}: {difference}");
    }
}

/// Compares the features with plain scalar arithmetic in f64.
#[test]
fn the_unmodified_network_computes_the_graph() {
    let image: Vec<f32> = input(1).flatten_all().unwrap().to_vec1().unwrap();
    let reference = super::reference::features(&backbone(), &image);
    let network = network(Recipe::Linear);
    let of_candle = candle().features(&network, &input(1)).unwrap().flatten_all().unwrap();
    let of_candle = of_candle.to_vec1::<f32>().unwrap();
    let of_runtime = network.features(&[&image], [SIDE as usize; 2]).unwrap().concat();
    for features in [of_candle, of_runtime] {
        assert_eq!(reference.len(), features.len());
        for (expected, got) in reference.iter().zip(&features) {
            assert!((expected - f64::from(*got)).abs() < 1e-4, "{expected} {got}");
        }
    }
}

#[test]
fn folding_keeps_the_function_of_every_recipe() {
    let (x, candle) = (input(3), candle());
    for recipe in Recipe::ALL {
        let mut network = network(recipe);
        disturb(&mut network, 0.2);
        let inferred = candle.logits(&network, &x).unwrap();
        let adapter = network.to_adapter(header()).unwrap();
        adapter.validate().unwrap();
        let folded = Network::from_adapter(&backbone(), &adapter).unwrap();
        let difference = relative_difference(&candle.logits(&folded, &x).unwrap(), &inferred);
        assert!(difference < 1e-5, "{recipe}: {difference}");
        assert_eq!(folded.recipe(), recipe);
        assert_eq!(folded.to_adapter(header()).unwrap(), adapter, "{recipe}");
    }
}

#[test]
fn a_recipe_trains_its_own_parameters_and_all_of_them() {
    let expected = [
        (Recipe::Linear, 2),
        // Weight and bias of the head, and scale and bias at each of 4 sites.
        (Recipe::Bn, 2 + 8),
        // And 3 kernels.
        (Recipe::Clr, 2 + 8 + 3),
        (Recipe::ClrScale, 2 + 8 + 4),
        (Recipe::ClrFull, 2 + 8 + 4),
    ];
    let candle = candle();
    for (recipe, count) in expected {
        for mode in [Mode::Train, Mode::TrainOnBatch { momentum: 0.1 }] {
            let mut network = network(recipe);
            disturb(&mut network, 0.2);
            let parameters = network.parameters();
            assert_eq!(parameters.len(), count, "{recipe}");
            let gradients = step(&candle, &mut network, mode).gradients;
            assert_eq!(gradients.len(), count, "{recipe}");
            for (parameter, gradient) in parameters.iter().zip(gradients) {
                let name = &parameter.name;
                let gradient = gradient.unwrap_or_else(|| panic!("{recipe}: {name}"));
                let largest = gradient
                    .iter()
                    .fold(0.0, |largest: f32, value| largest.max(value.abs()));
                assert!(largest > 0.0 && largest.is_finite(), "{recipe} {mode:?}: {name}");
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_through_the_whole_network() {
    let candle = candle();
    for mode in [Mode::Train, Mode::TrainOnBatch { momentum: 0.0 }] {
        let mut network = network(Recipe::ClrFull);
        disturb(&mut network, 0.2);
        let gradients = step(&candle, &mut network, mode).gradients;
        let parameters = network.parameters();
        let start: Vec<Vec<f32>> = parameters.iter().map(|parameter| parameter.values.clone()).collect();
        for (index, parameter) in parameters.iter().enumerate() {
            let gradient = gradients[index].as_ref().unwrap();
            let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
            let length = 2e-3;
            let mut along = |sign: f32| {
                let mut moved = start.clone();
                let values = moved[index].iter_mut().zip(gradient);
                values.for_each(|(value, slope)| *value += sign * length * slope / norm);
                network.set_values(&moved).unwrap();
                f64::from(step(&candle, &mut network, mode).loss)
            };
            let slope = (along(1.0) - along(-1.0)) / (2.0 * f64::from(length));
            let error = (slope - f64::from(norm)).abs() / f64::from(norm);
            assert!(
                error < 2e-2,
                "{mode:?} {}: slope {slope}, gradient {norm}",
                parameter.name
            );
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient() {
    let mut network = network(Recipe::Clr);
    network.set_trainable(|name, group| group == Group::Head || name.starts_with("expand"));
    let names: Vec<String> = network
        .parameters()
        .into_iter()
        .map(|parameter| parameter.name)
        .collect();
    let expected = [
        "head.weight",
        "head.bias",
        "expand.kernel",
        "expand.norm.scale",
        "expand.norm.bias",
    ];
    assert_eq!(names, expected);
    assert_eq!(step(&candle(), &mut network, Mode::Train).gradients.len(), 5);
}

#[test]
fn batch_statistics_move_running_averages_only_in_training() {
    let (candle, mut network) = (candle(), network(Recipe::Clr));
    let before = network.snapshot();
    candle.logits(&network, &input(4)).unwrap();
    candle.forward(&mut network, &input(4), Mode::Train).unwrap();
    assert_eq!(network.snapshot(), before);
    let mode = |momentum| Mode::TrainOnBatch { momentum };
    candle.forward(&mut network, &input(4), mode(0.1)).unwrap();
    assert_ne!(network.snapshot(), before);
    // With all weight on the batch, inference on the batch equals training on it, except for the unbiased variance.
    network.restore(&before).unwrap();
    let x = input(16);
    let trained = candle.forward(&mut network, &x, mode(1.0)).unwrap();
    let difference = relative_difference(&candle.logits(&network, &x).unwrap(), &trained);
    assert!(difference < 0.02, "{difference}");
}

#[test]
fn full_blend_on_one_batch_is_its_own_statistics_and_none_is_the_backbone() {
    let (x, candle) = (input(8), candle());
    let mut blended = network(Recipe::Bn);
    let before = blended.snapshot();
    candle.estimate_statistics(&mut blended, [Ok(x.clone())], 0.0).unwrap();
    assert_eq!(blended.snapshot(), before);
    let mode = Mode::TrainOnBatch { momentum: 0.0 };
    let trained = candle.forward(&mut network(Recipe::Bn), &x, mode).unwrap();
    candle.estimate_statistics(&mut blended, [Ok(x.clone())], 1.0).unwrap();
    let difference = relative_difference(&candle.logits(&blended, &x).unwrap(), &trained);
    assert!(difference < 1e-4, "{difference}");
}

/// Compares the cross-entropy used in training with candle's own softmax and backward pass.
#[test]
fn the_cross_entropy_and_its_gradient_agree_with_candle() {
    let logits = [0.3_f32, -1.2, 2.0, 0.7];
    let target = clr_learning::smoothed_target(1, 4, 0.1);
    for temperature in [1.0, 2.5] {
        let (loss, gradient) = clr_learning::cross_entropy(&logits, &target, temperature);
        let variable = candle_core::Var::from_slice(&logits, (1, 4), &Device::Cpu).unwrap();
        let log = candle_nn::ops::log_softmax(&(variable.as_tensor() / temperature).unwrap(), 1).unwrap();
        let target = Tensor::from_slice(&target, (1, 4), &Device::Cpu).unwrap();
        let want = (log * target).unwrap().sum_all().unwrap().neg().unwrap();
        assert!((loss - f64::from(want.to_scalar::<f32>().unwrap())).abs() < 1e-5);
        let gradients = want.backward().unwrap();
        let want = gradients
            .get(&variable)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        for (got, want) in gradient.iter().zip(want) {
            assert!((got - f64::from(want)).abs() < 1e-5, "{got} {want}");
        }
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_name() {
    let adapter = network(Recipe::Clr).to_adapter(header()).unwrap();
    let mut other = adapter.clone();
    other.header.backbone = Digest::of(b"another");
    let refused = |adapter| Network::from_adapter(&backbone(), adapter).err().unwrap().to_string();
    assert!(refused(&other).contains("belongs to another backbone"));
    let mut renamed = adapter.clone();
    renamed.sites[1].name = Some("elsewhere".into());
    assert!(refused(&renamed).contains("`depthwise`"));
    let mut short = adapter.clone();
    short.sites.pop();
    assert!(refused(&short).contains("site 0: expected `depthwise`"));
    let mut wide = adapter;
    wide.head.features = 12;
    assert!(refused(&wide).contains("expected 24, got 12"));
}
