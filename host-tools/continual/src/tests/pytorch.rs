//! Every method against PyTorch, step by step.

use std::collections::BTreeMap;

use super::fixture::{BATCH, CLASSES, Fixture, IMAGES, RATE, SEED, STEPS, arrays, batch, indices};
use crate::{
    Buffer, Method, NetworkLearner, Vectors,
    methods::{
        Ccll, Confit, DerPlusPlus, Eft, Ewc, ExperienceReplay, Independent, Lwf, OnlineEwc, Psp, Sgd, SgdLastLayer,
        SupSup, SynapticIntelligence, constants, scores, signs,
    },
    values,
};

/// Asserts that values are equal within `1e-5` of the largest.
#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let apart = (got - expected).abs();
        assert!(
            apart <= 1e-5 * largest.max(1.0),
            "{what}, value {index}: got {got}, PyTorch {expected}"
        );
    }
}

/// Returns weights, norms and head of a task in the fixture's order.
fn snapshot(learner: &NetworkLearner, task: usize) -> Vec<f32> {
    let model = learner.model();
    let norms = &model.norms[learner.method().norms(task)];
    let mut all: Vectors = values(&model.weights.variables()).expect("weights");
    all.extend(values(&norms.variables()).expect("norms"));
    for running in norms.running() {
        all.extend([running.mean.clone(), running.variance.clone()]);
    }
    let head = if model.heads.len() == 1 { 0 } else { task };
    all.extend(values(&model.heads[head].variables()).expect("a head"));
    all.concat()
}

/// Compares two tasks of five steps each. `kept` names the array of the method's state, if it is compared.
fn compare(method: impl Method + 'static, kept: Option<&str>) {
    let (fixture, arrays) = (Fixture::new(), arrays());
    let mut learner = fixture.learner(method);
    let name = learner.method().name();
    let expected = |key: &str| &arrays[&format!("{name}.{key}")];
    let mut losses = Vec::new();
    for task in 0..2 {
        fixture.begin(&mut learner, task);
        for step in 0..STEPS {
            losses.push(fixture.step(&mut learner, task, step) as f32);
            if step == 0 || step == STEPS - 1 {
                let key = format!("task{task}.step{step}");
                assert_close(&format!("{name} {key}"), &snapshot(&learner, task), expected(&key));
            }
        }
        learner.end(&fixture.task(task)).expect("the end of a task");
    }
    assert_close(&format!("losses of {name}"), &losses, expected("losses"));
    for task in 0..2 {
        let key = format!("logits{task}");
        assert_close(
            &format!("{name} {key}"),
            &fixture.logits(&learner, task),
            expected(&key),
        );
    }
    if let Some(kept) = kept {
        let (got, expected) = (learner.method().save().expect("the method's state"), expected(kept));
        let of_images = got
            .images
            .iter()
            .flat_map(|image| [image.task as f32, image.label as f32]);
        let got: Vec<f32> = if got.images.is_empty() {
            got.vectors.concat()
        } else {
            of_images.collect()
        };
        let start = if kept == "own" { expected.len() } else { 0 };
        assert_close(&format!("{kept} of {name}"), &got[start..][..expected.len()], expected);
    }
}

#[test]
fn sgd_steps_equal_pytorch() {
    compare(Sgd { rate: RATE }, None);
}

#[test]
fn sgd_of_the_last_layer_steps_equal_pytorch() {
    compare(SgdLastLayer::new(RATE, 3), None);
}

#[test]
fn ewc_steps_equal_pytorch() {
    compare(Ewc::new(RATE, 100.0), Some("importance"));
}

#[test]
fn online_ewc_steps_equal_pytorch() {
    compare(OnlineEwc::new(RATE, 100.0, 0.9), Some("importance"));
}

#[test]
fn synaptic_intelligence_steps_equal_pytorch() {
    compare(SynapticIntelligence::new(RATE, 200.0, 0.1), Some("importance"));
}

#[test]
fn lwf_steps_equal_pytorch() {
    compare(Lwf::new(RATE, 1.0, 2.0), None);
}

#[test]
fn experience_replay_steps_equal_pytorch() {
    compare(ExperienceReplay::new(RATE, 6), Some("buffer"));
}

#[test]
fn der_steps_equal_pytorch() {
    compare(DerPlusPlus::new(RATE, 0.3, 0.5, 6), None);
}

#[test]
fn psp_steps_equal_pytorch() {
    compare(Psp::new(RATE), None);
}

#[test]
fn supsup_steps_equal_pytorch() {
    compare(SupSup::new(RATE, 8), None);
}

#[test]
fn eft_steps_equal_pytorch() {
    compare(Eft::new(RATE), Some("own"));
}

#[test]
fn ccll_steps_equal_pytorch() {
    compare(Ccll::new(RATE, 0.0001), Some("own"));
}

#[test]
fn confit_steps_equal_pytorch() {
    compare(Confit::new(RATE), None);
}

#[test]
fn independent_networks_steps_equal_pytorch() {
    compare(Independent::new(RATE), None);
}

/// Writes the random choices that `tests/tools/continual_fixture.py` reads.
#[test]
#[ignore = "only needed to write the fixture again"]
fn writes_the_random_draws() {
    let fixture = Fixture::new();
    let model = crate::Model::new(&fixture.backbone, &candle_core::Device::Cpu).expect("a model");
    let layers = || model.structure.convs().iter().enumerate();
    let of_layers = |draw: &dyn Fn(usize, &crate::ConvLayer) -> Vec<f32>| {
        layers()
            .map(|(index, layer)| (layer.name.clone(), draw(index, layer)))
            .collect::<BTreeMap<_, _>>()
    };
    let mut stored = 0;
    let mut draws = Vec::new();
    for (task, images) in fixture.tasks.iter().enumerate() {
        let mut steps = Vec::new();
        for step in 0..STEPS {
            let indices = indices(step);
            let batch = batch(images, &indices, step);
            steps.push([0, 1].map(|draw| Buffer::places(SEED, task, &batch, draw, stored, BATCH)));
            stored = (stored + BATCH).min(6);
        }
        draws.push(steps);
    }
    let tasks = 0..CLASSES.len();
    let document = serde_json::json!({
        "signs": tasks.clone().map(|task| of_layers(&|index, layer| signs(SEED, task, index, layer))).collect::<Vec<_>>(),
        "scores": tasks.map(|task| of_layers(&|index, layer| scores(SEED, task, index, layer))).collect::<Vec<_>>(),
        "constants": of_layers(&|index, layer| constants(SEED, index, layer)),
        "offers": (0..(2 * STEPS * IMAGES) as u64).map(|offer| Buffer::place(SEED, offer)).collect::<Vec<_>>(),
        "draws": draws,
    });
    let path = std::env::temp_dir().join("draws.json");
    std::fs::write(&path, document.to_string()).expect("the draws");
    println!("{}", path.display());
}
