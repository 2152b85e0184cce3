//! What must hold of each method, whatever it learns.

use super::fixture::{CLASSES, Fixture, RATE, SEED, STEPS};
use crate::{
    Buffer, Example, Method, NetworkLearner, Stored, Vectors,
    methods::{
        Ccll, Confit, DerPlusPlus, Eft, Ewc, ExperienceReplay, Independent, LaterRates, Lwf, OnlineEwc, Psp, Sgd,
        SgdLastLayer, SupSup, SynapticIntelligence,
    },
    values,
};

const LATER: LaterRates = LaterRates {
    calibrations: RATE,
    norms: RATE,
    head: RATE,
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
        ("ccll", first_task(Ccll::new(RATE, LATER))),
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
        logits(&mut fixture.learner(Ccll::new(RATE, LATER))),
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
    const RUNS: u64 = 100_000;
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
        assert!((share - 0.25).abs() < 0.005, "offer {offer}: {share}");
    }
}

#[test]
fn the_place_of_an_offer_depends_on_the_seed_and_its_number_alone() {
    let place = |seed: u64| move |offer: u64| Buffer::place(seed, offer);
    let forward: Vec<u64> = (0..100).map(place(SEED)).collect();
    let mut backward: Vec<u64> = (0..100).rev().map(place(SEED)).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    assert!((0..).zip(&forward).all(|(offer, place)| *place <= offer));
    assert_ne!(forward, (0..100).map(place(SEED + 1)).collect::<Vec<_>>());
}
