//! Importances, penalties, distillation and masks whose values are known in closed form.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use clr_onnx::{Op, Padding, RgbImage};
use clr_training::{Augmentation, ops::ConvOptions};

use super::fixture::{CLASSES, Fixture, SEED, batch, chain, preprocessing};
use crate::{
    ConvLayer, Example, Head, Images, Method, Model, Task, Vectors, distillation,
    methods::{Ewc, OnlineEwc, SynapticIntelligence, kept, mask},
    set_values, values,
};

/// Returns a linear softmax of three inputs with two classes, weights and biases zero, and images of one colour each.
/// The inputs are the mean red, green and blue in 0–255. The head is the identity.
fn linear(colours: &[([u8; 3], u32)]) -> (Model, Images) {
    let preprocessing = preprocessing([2; 2], 0.0, 1.0);
    let dense = Op::Dense {
        weight: clr_onnx::Tensor::new([2, 3], vec![0.0; 6]),
        bias: clr_onnx::Tensor::new([2], vec![0.0; 2]),
    };
    let ops = [
        ("pool", Op::GlobalAveragePool),
        ("flatten", Op::Flatten),
        ("dense", dense),
    ];
    let ops = ops.map(|(name, op)| (name.to_owned(), op));
    let mut model = Model::new(&chain(Vec::from(ops), &preprocessing), &Device::Cpu).expect("a model");
    model.heads = vec![Head::new(&[1.0, 0.0, 0.0, 1.0], &[0.0; 2], &Device::Cpu).expect("a head")];
    let examples = colours.iter().map(|&(colour, label)| Example {
        image: Arc::new(RgbImage::from_raw(2, 2, colour.repeat(4)).expect("2 × 2 pixels")),
        label,
    });
    (model, Images::new(preprocessing, examples.collect()))
}

fn task(images: &Images) -> Task<'_> {
    Task {
        index: 0,
        classes: 2,
        train: images,
        seed: SEED,
        augmentation: &Augmentation::NONE,
    }
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance, "{got} {expected}");
    }
}

/// `Σ_c p_c ([c = k] − p_k)² xᵢ²` with p = ½ is `xᵢ² / 4`.
#[test]
fn the_fisher_information_of_a_linear_softmax_is_a_quarter_of_the_squared_input() {
    let row = [0.25, 1.0, 0.0];
    // The gradients of two images with different classes are squared before their mean, so they do not cancel.
    for colours in [&[([1, 2, 0], 0)][..], &[([1, 2, 0], 0), ([1, 2, 0], 1)]] {
        let (mut model, images) = linear(colours);
        let mut ewc = Ewc::new(0.01, 1.0);
        ewc.end(&mut model, &task(&images)).expect("the end of a task");
        let kept = ewc.save().expect("the state").vectors;
        assert_close(&kept[0], &[row, row].concat(), 1e-6);
        assert_close(&kept[1], &[0.25; 2], 1e-6);
    }
}

/// Gradients −1 and −½ and two steps of 0.1: ω = 0.15, Ω = 0.15 / (0.2² + 0.1).
#[test]
fn the_path_of_one_weight_gives_its_importance() {
    let (mut model, images) = linear(&[([1, 2, 0], 0)]);
    let (task, batch) = (task(&images), batch(&images, &[0], 0));
    let mut si = SynapticIntelligence::new(0.01, 1.0, 0.1);
    si.begin(&mut model, &task).expect("a task");
    let variables = model.backbone_variables(0);
    for gradient in [-1.0, -0.5] {
        let mut now = values(&variables).expect("values");
        let mut gradients: Vectors = now.iter().map(|values| vec![0.0; values.len()]).collect();
        gradients[0][0] = gradient;
        si.penalise(&now, &mut gradients);
        now[0][0] += 0.1;
        set_values(&variables, &now).expect("values");
        si.stepped(&task, &batch, &now).expect("a step");
    }
    let path = si.step_state().expect("the path");
    assert_close(&path[0], &[0.15, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-6);
    si.end(&mut model, &task).expect("the end of a task");
    let kept = si.save().expect("the state").vectors;
    assert_close(&kept[0], &[1.071_43, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-5);
    assert_close(&kept[1], &[0.0; 2], 0.0);
    assert_close(&kept[2], &[0.2, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-6);
}

/// With a negative importance, the penalty would have no minimum.
#[test]
fn a_path_that_raises_the_loss_gives_no_importance() {
    let (mut model, images) = linear(&[([1, 2, 0], 0)]);
    let (task, batch) = (task(&images), batch(&images, &[0], 0));
    let mut si = SynapticIntelligence::new(0.01, 1.0, 0.1);
    si.begin(&mut model, &task).expect("a task");
    si.penalise(&[vec![0.0; 6], vec![0.0; 2]], &mut [vec![1.0; 6], vec![0.0; 2]]);
    si.stepped(&task, &batch, &[vec![0.1; 6], vec![0.0; 2]])
        .expect("a step");
    si.end(&mut model, &task).expect("the end of a task");
    assert_eq!(si.save().expect("the state").vectors[0], [0.0; 6]);
}

/// At θ* + 0.1 with F = (¼, 1, 0, ¼, 1, 0) and ¼ for both biases.
#[test]
fn penalties_and_their_gradients_pull_towards_the_old_values() {
    let fisher = [vec![0.25, 1.0, 0.0, 0.25, 1.0, 0.0], vec![0.25; 2]];
    let scaled = |factor: f32| {
        fisher
            .clone()
            .map(|values| values.iter().map(|value| factor * value).collect::<Vec<f32>>())
    };
    let (mut model, images) = linear(&[([1, 2, 0], 0)]);
    let moved = [vec![0.1; 6], vec![0.1; 2]];
    let mut of = |method: &mut dyn Method| {
        method.end(&mut model, &task(&images)).expect("the end of a task");
        let mut gradients = vec![vec![0.0; 6], vec![0.0; 2]];
        let penalty = method.penalise(&moved, &mut gradients);
        (penalty as f32, gradients)
    };
    // (λ/2) Σ F Δ² and λ F Δ with λ = 10; online EWC has a further factor γ = ½.
    for (method, factor) in [
        (&mut Ewc::new(0.01, 10.0) as &mut dyn Method, 1.0),
        (&mut OnlineEwc::new(0.01, 10.0, 0.5), 0.5),
    ] {
        let (penalty, gradients) = of(method);
        assert_close(&[penalty], &[factor * 0.15], 1e-6);
        assert_close(&gradients.concat(), &scaled(factor).concat(), 1e-6);
    }
    // SI: c Σ Ω Δ² and 2 c Ω Δ with c = 3. Gradient −1, a step of 0.1 and a task that ends at θ* give Ω = 0.1 / ξ = 1.
    let mut si = SynapticIntelligence::new(0.01, 3.0, 0.1);
    let task = task(&images);
    si.begin(&mut model, &task).expect("a task");
    let zeros = [vec![0.0; 6], vec![0.0; 2]];
    si.penalise(&zeros, &mut [vec![-1.0; 6], vec![0.0; 2]]);
    si.stepped(&task, &batch(&images, &[0], 0), &moved).expect("a step");
    si.end(&mut model, &task).expect("the end of a task");
    let mut gradients = zeros.clone();
    let penalty = si.penalise(&moved, &mut gradients);
    assert_close(&[penalty as f32], &[3.0 * 6.0 * 0.01], 1e-6);
    assert_close(&gradients.concat(), &[vec![0.6; 6], vec![0.0; 2]].concat(), 1e-6);
}

/// One EWC after three tasks against three, each after one of them.
#[test]
fn the_penalty_of_all_tasks_is_the_sum_of_their_penalties() {
    let fixture = Fixture::new();
    let mut model = Model::new(&fixture.backbone, &Device::Cpu).expect("a model");
    let variables = model.backbone_variables(0);
    let start = values(&variables).expect("values");
    let shifted = |amount: f32| -> Vectors {
        let shift = |(index, value): (usize, &f32)| value + amount * (1.7 * amount * index as f32 + amount).sin();
        start
            .iter()
            .map(|values| values.iter().enumerate().map(shift).collect())
            .collect()
    };
    let mut all = Ewc::new(1e-3, 10.0);
    let mut each = Vec::new();
    for index in 0..3 {
        let task = Task {
            index,
            classes: CLASSES[index % 2],
            train: &fixture.tasks[index % 2],
            seed: SEED,
            augmentation: &Augmentation::NONE,
        };
        all.begin(&mut model, &task).expect("a task");
        set_values(&variables, &shifted(0.1 * index as f32)).expect("values");
        all.end(&mut model, &task).expect("the end of a task");
        let mut one = Ewc::new(1e-3, 10.0);
        one.end(&mut model, &task).expect("the end of a task");
        each.push(one);
    }
    // A = ΣFˢ and θ̄ = ΣFˢθ*ˢ / A.
    let kept = |ewc: &Ewc| {
        let mut importance = ewc.save().expect("the state").vectors;
        let centre = importance.split_off(importance.len() / 2);
        (importance.concat(), centre.concat())
    };
    let (importance, centre) = kept(&all);
    let each_kept: Vec<_> = each.iter().map(kept).collect();
    for (index, (importance, centre)) in importance.into_iter().zip(centre).enumerate() {
        let sum: f64 = each_kept.iter().map(|(fisher, _)| f64::from(fisher[index])).sum();
        let weighted = each_kept
            .iter()
            .map(|(fisher, anchor)| f64::from(fisher[index]) * f64::from(anchor[index]));
        let mean = if sum > 0.0 { weighted.sum::<f64>() / sum } else { 0.0 };
        assert!((f64::from(importance) - sum).abs() <= 1e-6 * sum, "{importance} {sum}");
        assert!(
            (f64::from(centre) - mean).abs() <= 1e-6 * mean.abs().max(1.0),
            "{centre} {mean}"
        );
    }
    // Its value and gradient at another point.
    let point = shifted(0.45);
    let mut of_all: Vectors = point.iter().map(|values| vec![0.0; values.len()]).collect();
    let mut of_each = of_all.clone();
    let penalty = all.penalise(&point, &mut of_all);
    let sum: f64 = each.iter_mut().map(|one| one.penalise(&point, &mut of_each)).sum();
    assert!(sum > 0.0 && (penalty - sum).abs() <= 1e-6 * sum, "{penalty} {sum}");
    let largest = of_each
        .iter()
        .flatten()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert_close(&of_all.concat(), &of_each.concat(), 1e-6 * largest);
}

/// Reference: softmax of (2, 0) / 2 and log softmax of (1, 0) / 2.
#[test]
fn the_distillation_of_two_logits_is_its_closed_form() {
    let row = |values: [f32; 2]| Tensor::from_slice(&values, (1, 2), &Device::Cpu).expect("a row");
    let loss = |temperature| {
        let loss = distillation(&row([1.0, 0.0]), &row([2.0, 0.0]), temperature).expect("a loss");
        loss.to_scalar::<f32>().expect("a number")
    };
    assert_close(&[loss(2.0)], &[0.608_55], 1e-5);
    for temperature in [0.5, 1.0, 4.0] {
        assert!((loss(temperature) - 0.608_55).abs() > 0.02, "τ = {temperature}");
    }
}

/// The stem of EfficientNet-Lite0 with s = 8 keeps 280 of its 864 weights.
#[test]
fn a_mask_keeps_the_number_of_weights_that_its_density_gives() {
    let layer = ConvLayer {
        name: "stem".to_owned(),
        shape: [32, 3, 3, 3],
        options: ConvOptions {
            stride: [2; 2],
            dilation: [1; 2],
            groups: 1,
            padding: Padding::SameUpper,
        },
        norm: None,
    };
    assert_eq!(kept(&layer, 8), 280);
    let scores: Vec<f32> = (0..864).map(|index| (index as f32 * 0.7).sin()).collect();
    assert_eq!(mask(&scores, kept(&layer, 8)).iter().filter(|kept| **kept).count(), 280);
    let mask = mask(&[0.5, -2.0, 2.0, 0.1, -2.0], 2);
    assert_eq!(mask, [false, true, true, false, false]);
}
