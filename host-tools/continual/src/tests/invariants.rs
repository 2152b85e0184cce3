//! What must hold of each method, whatever it learns.

use candle_core::{Device, Tensor};
use clr_onnx::Padding;
use clr_training::ops::ConvOptions;

use super::fixture::{CLASSES, Fixture, RATE, SEED, STEPS};
use crate::{
    Buffer, ConvLayer, Example, Method, NetworkLearner, Stored, Vectors, distillation,
    methods::{
        Ccll, Confit, DerPlusPlus, Eft, Ewc, ExperienceReplay, Independent, Lwf, OnlineEwc, Psp, Sgd, SgdLastLayer,
        SupSup, SynapticIntelligence, kept, mask,
    },
    values,
};

/// Returns the bits of all weights, shared norms and heads after both tasks.
fn learned(method: impl Method + 'static) -> Vec<Vec<u32>> {
    let fixture = Fixture::new();
    let mut learner = fixture.learner(method);
    fixture.learn(&mut learner);
    bits(&learner)
}

fn bits(learner: &NetworkLearner) -> Vec<Vec<u32>> {
    let model = learner.model();
    let mut all: Vectors = values(&model.backbone_variables(0)).expect("values");
    all.extend(
        model.norms[0]
            .running()
            .iter()
            .flat_map(|running| [running.mean.clone(), running.variance.clone()]),
    );
    for head in &model.heads {
        all.extend(values(&head.variables()).expect("a head"));
    }
    all.into_iter()
        .map(|values| values.into_iter().map(f32::to_bits).collect())
        .collect()
}

#[test]
fn a_method_that_is_switched_off_is_sgd_bit_for_bit() {
    let sgd = learned(Sgd { rate: RATE });
    assert_eq!(learned(Ewc::new(RATE, 0.0)), sgd, "EWC with λ = 0");
    assert_eq!(learned(OnlineEwc::new(RATE, 0.0, 0.9)), sgd, "online EWC with λ = 0");
    assert_eq!(learned(SynapticIntelligence::new(RATE, 0.0, 0.1)), sgd, "SI with c = 0");
    assert_eq!(learned(Lwf::new(RATE, 0.0, 2.0)), sgd, "LwF with α = 0");
    assert_eq!(
        learned(ExperienceReplay::new(RATE, 0)),
        sgd,
        "ER without room in its buffer"
    );
    assert_eq!(
        learned(DerPlusPlus::new(RATE, 0.0, 0.0, 6)),
        sgd,
        "DER++ with α = β = 0"
    );
}

#[test]
fn superposition_without_contexts_learns_its_first_task_as_sgd() {
    let fixture = Fixture::new();
    let [psp, sgd] = [
        fixture.learner(Psp::new(RATE).without_contexts()),
        fixture.learner(Sgd { rate: RATE }),
    ]
    .map(|mut learner| {
        fixture.begin(&mut learner, 0);
        for step in 0..STEPS {
            fixture.step(&mut learner, 0, step);
        }
        bits(&learner)
    });
    assert_eq!(psp, sgd);
}

/// Returns the bits of the first task's logits after the first and after the second task.
fn first_task(method: impl Method + 'static) -> [Vec<u32>; 2] {
    let fixture = Fixture::new();
    let mut learner = fixture.learner(method);
    [0, 1].map(|index| {
        fixture.begin(&mut learner, index);
        for step in 0..STEPS {
            fixture.step(&mut learner, index, step);
        }
        learner.end(&fixture.task(index)).expect("the end of a task");
        fixture.logits(&learner, 0).into_iter().map(f32::to_bits).collect()
    })
}

#[test]
fn methods_with_isolated_parameters_forget_nothing() {
    for (name, [before, after]) in [
        ("supsup", first_task(SupSup::new(RATE, 8))),
        ("eft", first_task(Eft::new(RATE))),
        ("ccll", first_task(Ccll::new(RATE, RATE))),
        ("independent", first_task(Independent::new(RATE))),
    ] {
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn methods_with_shared_parameters_change_older_answers() {
    for (name, [before, after]) in [
        ("sgd", first_task(Sgd { rate: RATE })),
        ("sgd-ll", first_task(SgdLastLayer::new(RATE, CLASSES[0]))),
        ("ewc", first_task(Ewc::new(RATE, 100.0))),
        ("psp", first_task(Psp::new(RATE))),
        ("confit", first_task(Confit::new(RATE))),
    ] {
        assert_ne!(before, after, "{name}");
    }
}

#[test]
fn masks_leave_the_weights_of_the_random_network_untouched() {
    let fixture = Fixture::new();
    let mut learner = fixture.learner(SupSup::new(RATE, 8));
    fixture.begin(&mut learner, 0);
    let before = values(learner.model().weights.convs()).expect("weights");
    for step in 0..STEPS {
        fixture.step(&mut learner, 0, step);
    }
    learner.end(&fixture.task(0)).expect("the end of a task");
    assert_eq!(values(learner.model().weights.convs()).expect("weights"), before);
    for (weights, layer) in before.iter().zip(learner.model().structure.convs()) {
        let size = (2.0 / layer.shape[1..].iter().product::<usize>() as f32).sqrt();
        assert!(weights.iter().all(|weight| weight.abs() == size), "{}", layer.name);
    }
}

#[test]
fn transformations_and_calibrations_start_at_the_backbones_answers() {
    let fixture = Fixture::new();
    let logits = |learner: &mut NetworkLearner| {
        fixture.begin(learner, 0);
        fixture.logits(learner, 0)
    };
    let plain = logits(&mut fixture.learner(Sgd { rate: RATE }));
    let start = [
        logits(&mut fixture.learner(Eft::new(RATE))),
        logits(&mut fixture.learner(Ccll::new(RATE, RATE))),
        logits(&mut fixture.learner(Psp::new(RATE))),
        logits(&mut fixture.learner(Confit::new(RATE))),
    ];
    for (index, start) in start.iter().enumerate() {
        for (got, expected) in start.iter().zip(&plain) {
            assert!((got - expected).abs() < 1e-5, "{index}: {got} {expected}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let methods: [fn() -> Box<dyn Method>; 3] = [
        || Box::new(DerPlusPlus::new(RATE, 0.3, 0.5, 6)),
        || Box::new(Psp::new(RATE)),
        || Box::new(SupSup::new(RATE, 8)),
    ];
    for method in methods {
        let run = || {
            let fixture = Fixture::new();
            let model = crate::Model::new(&fixture.backbone, &candle_core::Device::Cpu).expect("a model");
            let mut learner = NetworkLearner::new(model, method());
            fixture.learn(&mut learner);
            (bits(&learner), fixture.logits(&learner, 0), fixture.logits(&learner, 1))
        };
        assert!(run() == run(), "{}", method().name());
    }
}

#[test]
fn a_reservoir_keeps_each_of_its_offers_equally_often() {
    const RUNS: u64 = 20_000;
    let fixture = Fixture::new();
    let example: &Example = &fixture.tasks[0].examples()[0];
    let mut kept = [0_u32; 20];
    for seed in 0..RUNS {
        let mut buffer = Buffer::new(5);
        for offer in 0..20 {
            buffer.offer(SEED + seed, || Stored {
                example: example.clone(),
                task: offer,
                logits: Vec::new(),
            });
        }
        assert_eq!(buffer.stored().len(), 5);
        for stored in buffer.stored() {
            kept[stored.task] += 1;
        }
    }
    for (offer, kept) in kept.into_iter().enumerate() {
        let share = f64::from(kept) / RUNS as f64;
        assert!((share - 0.25).abs() < 0.012, "offer {offer}: {share}");
    }
}

/// Reference: softmax of (2, 0) / 2 and log softmax of (1, 0) / 2.
#[test]
fn the_distillation_of_two_logits_is_its_closed_form() {
    let row = |values: [f32; 2]| Tensor::from_slice(&values, (1, 2), &Device::Cpu).expect("a row");
    let loss = distillation(&row([1.0, 0.0]), &row([2.0, 0.0]), 2.0).expect("a loss");
    let loss: f32 = loss.to_scalar().expect("a number");
    assert!((loss - 0.608_55).abs() < 1e-5, "{loss}");
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
    let mask = mask(&[0.5, -2.0, 2.0, 0.1, -2.0], 2);
    assert_eq!(mask, [false, true, true, false, false]);
}
