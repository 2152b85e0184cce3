//! Every method against PyTorch, step by step.

use std::collections::BTreeMap;

use super::fixture::{BATCH, CLASSES, Fixture, IMAGES, RATE, SEED, STEPS, arrays, batch, indices};
use crate::{
    Batch, Buffer, Cost, Kept, Method, Model, NetworkLearner, Result, Task, Trained, Vectors,
    methods::{
        Ccll, Confit, DerPlusPlus, Eft, Ewc, ExperienceReplay, Independent, LaterRates, Lwf, OnlineEwc, Psp, Sgd,
        SgdLastLayer, SupSup, SynapticIntelligence, constants, scores, signs,
    },
    values,
};

/// Tolerance of a tensor, relative to its largest absolute value.
const RELATIVE: f32 = 1e-5;

/// Largest absolute value that a tensor counts as having at least: differences below 1e-8 are none.
const FLOOR: f32 = 1e-3;

/// As [`FLOOR`], for the calibrations of CCLL in the second task: differences below 5e-6 are none.
///
/// A norm follows a calibration, so the gradient of a channel's scale is zero but for ε. Adam makes a full step of it,
/// with an error of 1 % in float32, in PyTorch as well.
const CALIBRATION_FLOOR: f32 = 0.5;

/// The largest difference from PyTorch.
#[derive(Default)]
struct Difference {
    /// In units of the tolerance.
    size: f32,
    place: String,
}

impl Difference {
    /// Compares tensors with their concatenation in the fixture.
    fn compare(&mut self, key: &str, got: &[Vec<f32>], expected: &[f32], floor: f32) {
        let count: usize = got.iter().map(Vec::len).sum();
        assert_eq!(count, expected.len(), "{key}");
        let mut rest = expected;
        for (tensor, got) in got.iter().enumerate() {
            let expected = rest.split_off(..got.len()).expect("as many values");
            let largest = expected.iter().fold(floor, |largest, value| largest.max(value.abs()));
            for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
                let size = (got - expected).abs() / (RELATIVE * largest);
                if size > self.size || size.is_nan() {
                    let size = if size.is_nan() { f32::INFINITY } else { size };
                    let place = format!("{key}, tensor {tensor}, value {index}: got {got}, PyTorch {expected}");
                    *self = Self { size, place };
                }
            }
        }
    }
}

/// Returns weights, norms and head of a task in the fixture's order.
fn snapshot(learner: &NetworkLearner, task: usize) -> Vectors {
    let model = learner.model();
    let norms = &model.norms[learner.method().norms(task)];
    let mut all: Vectors = values(&model.weights.variables()).expect("weights");
    all.extend(values(&norms.variables()).expect("norms"));
    for running in norms.running() {
        all.extend([running.mean.clone(), running.variance.clone()]);
    }
    let head = if model.heads.len() == 1 { 0 } else { task };
    all.extend(values(&model.heads[head].variables()).expect("a head"));
    all
}

/// Returns the state of a method, and the task, class, sum of pixels and logits of each image in its buffer.
fn state(method: &dyn Method) -> Vectors {
    let mut all = method.step_state().expect("the state");
    for image in method.save().expect("the state").images {
        let sum: u32 = image.pixels.iter().map(|&value| u32::from(value)).sum();
        all.extend([image.task as f32, image.label as f32, sum as f32].map(|number| vec![number]));
        all.extend((!image.logits.is_empty()).then_some(image.logits));
    }
    all
}

/// Returns the difference from PyTorch over two tasks of five steps each, in the loss, values and state of every step, in
/// a penalty's state after each task, and in the final logits.
fn difference(method: impl Method + 'static) -> Difference {
    let (fixture, arrays) = (Fixture::new(), arrays());
    let mut learner = fixture.learner(method);
    let name = learner.method().name();
    // An array that equals that of SGD is stored once.
    let find = |key: &str| (arrays.get(&format!("{name}.{key}"))).or_else(|| arrays.get(&format!("sgd.{key}")));
    let expected = |key: &str| &find(key).unwrap_or_else(|| panic!("{key} of {name}"))[..];
    let mut difference = Difference::default();
    let mut losses = Vec::new();
    for task in 0..2 {
        fixture.begin(&mut learner, task);
        for step in 0..STEPS {
            losses.push(vec![fixture.step(&mut learner, task, step) as f32]);
            let key = format!("task{task}.step{step}");
            difference.compare(&key, &snapshot(&learner, task), expected(&key), FLOOR);
            let (key, state) = (format!("{key}.state"), state(learner.method()));
            if !state.is_empty() || find(&key).is_some() {
                let floor = if (name, task) == ("ccll", 1) {
                    CALIBRATION_FLOOR
                } else {
                    FLOOR
                };
                difference.compare(&key, &state, expected(&key), floor);
            }
        }
        learner.end(&fixture.task(task)).expect("the end of a task");
        if ["ewc", "online-ewc", "si"].contains(&name) {
            let (key, kept) = (format!("task{task}.end"), learner.method().save().expect("the state"));
            difference.compare(&key, &kept.vectors, expected(&key), FLOOR);
        }
    }
    difference.compare("losses", &losses, expected("losses"), FLOOR);
    for task in 0..2 {
        let key = format!("logits{task}");
        difference.compare(&key, &[fixture.logits(&learner, task)], expected(&key), FLOOR);
    }
    difference
}

#[track_caller]
fn assert_equal(method: impl Method + 'static) {
    let name = method.name();
    let Difference { size, place } = difference(method);
    assert!(size <= 1.0, "{name}: {size} tolerances at {place}");
}

#[test]
fn sgd_steps_equal_pytorch() {
    assert_equal(Sgd { rate: RATE });
}

#[test]
fn sgd_of_the_last_layer_steps_equal_pytorch() {
    assert_equal(SgdLastLayer::new(RATE, 3));
}

#[test]
fn ewc_steps_equal_pytorch() {
    assert_equal(Ewc::new(RATE, 100.0));
}

#[test]
fn online_ewc_steps_equal_pytorch() {
    assert_equal(OnlineEwc::new(RATE, 100.0, 0.9));
}

#[test]
fn synaptic_intelligence_steps_equal_pytorch() {
    assert_equal(SynapticIntelligence::new(RATE, 200.0, 0.1));
}

#[test]
fn lwf_steps_equal_pytorch() {
    assert_equal(Lwf::new(RATE, 1.0, 2.0));
}

#[test]
fn experience_replay_steps_equal_pytorch() {
    assert_equal(ExperienceReplay::new(RATE, 6));
}

#[test]
fn der_steps_equal_pytorch() {
    assert_equal(DerPlusPlus::new(RATE, 0.3, 0.5, 6));
}

#[test]
fn psp_steps_equal_pytorch() {
    assert_equal(Psp::new(RATE));
}

#[test]
fn supsup_steps_equal_pytorch() {
    assert_equal(SupSup::new(RATE, 8));
}

#[test]
fn eft_steps_equal_pytorch() {
    assert_equal(Eft::new(RATE));
}

#[test]
fn ccll_steps_equal_pytorch() {
    // Different rates would hide a variable of the wrong group.
    let later = LaterRates {
        calibrations: 0.0001,
        norms: 0.0002,
        head: 0.0005,
    };
    assert_equal(Ccll::new(RATE, later));
}

#[test]
fn confit_steps_equal_pytorch() {
    assert_equal(Confit::new(RATE));
}

#[test]
fn independent_networks_steps_equal_pytorch() {
    assert_equal(Independent::new(RATE));
}

/// A method whose penalty has the wrong sign.
struct Opposed<M>(M);

impl<M: Method> Method for Opposed<M> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        self.0.begin(model, task)
    }

    fn trained(&self, model: &Model, task: &Task<'_>, epoch: usize, epochs: usize) -> Trained {
        self.0.trained(model, task, epoch, epochs)
    }

    fn penalise(&mut self, values: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> f64 {
        let before = gradients.to_vec();
        let penalty = self.0.penalise(values, gradients);
        for (gradient, before) in gradients.iter_mut().flatten().zip(before.iter().flatten()) {
            *gradient = 2.0 * before - *gradient;
        }
        -penalty
    }

    fn stepped(&mut self, task: &Task<'_>, batch: &Batch<'_>, after: &[Vec<f32>]) -> Result<()> {
        self.0.stepped(task, batch, after)
    }

    fn step_state(&self) -> Result<Vectors> {
        self.0.step_state()
    }

    fn end(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        self.0.end(model, task)
    }

    fn save(&self) -> Result<Kept> {
        self.0.save()
    }

    fn cost(&self, model: &Model) -> Cost {
        self.0.cost(model)
    }
}

#[test]
fn a_wrong_sign_or_temperature_differs_from_pytorch() {
    let wrong = [
        difference(Opposed(Ewc::new(RATE, 100.0))),
        difference(Opposed(OnlineEwc::new(RATE, 100.0, 0.9))),
        difference(Opposed(SynapticIntelligence::new(RATE, 200.0, 0.1))),
        difference(Lwf::new(RATE, -1.0, 2.0)),
        difference(Lwf::new(RATE, 1.0, 1.0)),
        difference(DerPlusPlus::new(RATE, -0.3, 0.5, 6)),
    ];
    for (index, Difference { size, place }) in wrong.iter().enumerate() {
        assert!(*size > 20.0, "{index}: {size} tolerances at {place}");
    }
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
