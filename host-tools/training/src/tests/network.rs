//! The network against the backbone, against its folded self, and where gradients go.

use candle_core::{Device, Tensor};
use clr_adapters::{Digest, Header, Provenance, Recipe};

use super::fixtures::{SIDE, backbone, disturb, noise};
use crate::{
    Group, Mode, Network,
    evaluate::{cross_entropy, targets},
};

fn input(count: usize) -> Tensor {
    noise(count, SIDE as usize)
}

fn network(recipe: Recipe) -> Network {
    Network::new(&backbone(), recipe, 3, &Device::Cpu, 5).unwrap()
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

fn scalar_loss(network: &mut Network, mode: Mode) -> Tensor {
    let logits = network.forward(&input(4), mode).unwrap();
    let targets = targets(&[0, 1, 2, 1], 3, 0.1, &Device::Cpu).unwrap();
    cross_entropy(&logits, &targets).unwrap()
}

#[test]
fn every_recipe_starts_as_the_backbone() {
    let x = input(3);
    let frozen = network(Recipe::Linear).features(&x).unwrap();
    assert!(frozen.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.1);
    for recipe in Recipe::ALL {
        let difference = relative_difference(&network(recipe).features(&x).unwrap(), &frozen);
        assert!(difference < 1e-5, "{recipe}: {difference}");
    }
}

/// The features by plain arithmetic, one value at a time, in f64.
#[test]
fn the_untouched_network_computes_the_graph() {
    let reference = super::reference::features(&backbone(), &input(1).flatten_all().unwrap().to_vec1().unwrap());
    let features = network(Recipe::Linear)
        .features(&input(1))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert_eq!(reference.len(), features.len());
    for (expected, got) in reference.iter().zip(&features) {
        assert!((expected - f64::from(*got)).abs() < 1e-4, "{expected} {got}");
    }
}

#[test]
fn folding_keeps_the_function_of_every_recipe() {
    let x = input(3);
    for recipe in Recipe::ALL {
        let mut network = network(recipe);
        disturb(&network, 0.2);
        let trained = network.forward(&x, Mode::Train).unwrap();
        let inferred = network.logits(&x).unwrap();
        let adapter = network.to_adapter(header()).unwrap();
        adapter.validate().unwrap();
        let folded = Network::from_adapter(&backbone(), &adapter, &Device::Cpu).unwrap();
        let difference = relative_difference(&folded.logits(&x).unwrap(), &inferred);
        assert!(difference < 1e-5, "{recipe}: {difference}");
        assert!(relative_difference(&trained, &inferred) < 1e-6, "{recipe}");
        assert_eq!(folded.recipe(), recipe);
        assert_eq!(folded.to_adapter(header()).unwrap(), adapter, "{recipe}");
    }
}

#[test]
fn a_recipe_trains_its_own_parameters_and_all_of_them() {
    let expected = [
        (Recipe::Linear, 2),
        // Head, and scale and bias at each of 4 sites.
        (Recipe::Bn, 2 + 8),
        // And 3 kernels.
        (Recipe::Clr, 2 + 8 + 3),
        (Recipe::ClrScale, 2 + 8 + 4),
        (Recipe::ClrFull, 2 + 8 + 4),
    ];
    for (recipe, count) in expected {
        for mode in [Mode::Train, Mode::TrainOnBatch { momentum: 0.1 }] {
            let mut network = network(recipe);
            disturb(&network, 0.2);
            let parameters = network.parameters().unwrap();
            assert_eq!(parameters.len(), count, "{recipe}");
            let gradients = scalar_loss(&mut network, mode).backward().unwrap();
            for parameter in parameters {
                let gradient = gradients
                    .get(&parameter.var)
                    .unwrap_or_else(|| panic!("{recipe}: {}", parameter.name));
                let largest = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(
                    largest > 0.0 && largest.is_finite(),
                    "{recipe} {mode:?}: {}",
                    parameter.name
                );
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_through_the_whole_network() {
    for mode in [Mode::Train, Mode::TrainOnBatch { momentum: 0.0 }] {
        let mut network = network(Recipe::ClrFull);
        disturb(&network, 0.2);
        let gradients = scalar_loss(&mut network, mode).backward().unwrap();
        for parameter in network.parameters().unwrap() {
            let gradient = gradients
                .get(&parameter.var)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let start = parameter.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let norm = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
            let step = 2e-3;
            let mut along = |sign: f32| {
                let moved: Vec<f32> = start
                    .iter()
                    .zip(&gradient)
                    .map(|(value, slope)| value + sign * step * slope / norm)
                    .collect();
                parameter
                    .var
                    .set(&Tensor::from_vec(moved, parameter.var.shape(), &Device::Cpu).unwrap())
                    .unwrap();
                f64::from(scalar_loss(&mut network, mode).to_scalar::<f32>().unwrap())
            };
            let slope = (along(1.0) - along(-1.0)) / (2.0 * f64::from(step));
            along(0.0);
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
fn what_is_not_trained_gets_no_gradient() {
    let mut network = network(Recipe::Clr);
    let every = network.parameters().unwrap();
    network.train_only(|name, group| group == Group::Head || name.starts_with("expand"));
    let gradients = scalar_loss(&mut network, Mode::Train).backward().unwrap();
    for parameter in every {
        let trained = parameter.group == Group::Head || parameter.name.starts_with("expand");
        assert_eq!(gradients.get(&parameter.var).is_some(), trained, "{}", parameter.name);
    }
    assert_eq!(network.parameters().unwrap().len(), 5);
}

#[test]
fn batch_statistics_move_running_averages_only_in_training() {
    let mut network = network(Recipe::Clr);
    let before = network.snapshot().unwrap();
    network.logits(&input(4)).unwrap();
    network.forward(&input(4), Mode::Train).unwrap();
    assert_eq!(network.snapshot().unwrap(), before);
    network
        .forward(&input(4), Mode::TrainOnBatch { momentum: 0.1 })
        .unwrap();
    let after = network.snapshot().unwrap();
    assert_ne!(after, before);
    // With all weight on the batch, inference on that batch is training on it, but for the unbiased variance.
    network.restore(&before).unwrap();
    let x = input(16);
    let trained = network.forward(&x, Mode::TrainOnBatch { momentum: 1.0 }).unwrap();
    let difference = relative_difference(&network.logits(&x).unwrap(), &trained);
    assert!(difference < 0.02, "{difference}");
}

#[test]
fn full_blend_on_one_batch_is_its_own_statistics_and_none_is_the_backbone() {
    let x = input(8);
    let mut blended = network(Recipe::Bn);
    let before = blended.snapshot().unwrap();
    blended.estimate_statistics([Ok(x.clone())], 0.0).unwrap();
    assert_eq!(blended.snapshot().unwrap(), before);
    let trained = network(Recipe::Bn)
        .forward(&x, Mode::TrainOnBatch { momentum: 0.0 })
        .unwrap();
    blended.estimate_statistics([Ok(x.clone())], 1.0).unwrap();
    let difference = relative_difference(&blended.logits(&x).unwrap(), &trained);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_name() {
    let adapter = network(Recipe::Clr).to_adapter(header()).unwrap();
    let mut other = adapter.clone();
    other.header.backbone = Digest::of(b"another");
    let refused = |adapter| {
        Network::from_adapter(&backbone(), adapter, &Device::Cpu)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refused(&other).contains("backbone digest"));
    let mut renamed = adapter.clone();
    renamed.sites[1].name = "elsewhere".into();
    assert!(refused(&renamed).contains("`depthwise`"));
    let mut short = adapter.clone();
    short.sites.pop();
    assert!(refused(&short).contains("expand"));
    let mut wide = adapter;
    wide.head.features = 12;
    assert!(refused(&wide).contains("24 features"));
}
