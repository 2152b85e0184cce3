//! The automatic choice depends only on the image, and never changes a classification.

use std::sync::Arc;

use clr_adapters::{Head, Recipe};
use clr_engine::{ChoiceStatus, ChooserOptions, Engine, Kernels, ScoreOptions, TaskChooser, TaskSet, score_tasks};
use clr_onnx::{Architecture, Preprocess as _, RgbImage};

use crate::{
    common::{adapter, backbone, engine},
    scenes::{image, noise, with_profile},
};

const SIDE: u32 = 32;

fn small(kernels: Kernels) -> Engine {
    engine(backbone(Architecture::MobileNetV2, SIDE), 1, kernels)
}

#[test]
fn the_chosen_task_is_the_images_own_and_noise_is_unknown() {
    let engine = small(Kernels::Fused);
    let tasks = TaskSet::new();
    for task in 0..3 {
        tasks.insert(engine.prepare(&with_profile(&engine, task, SIDE)).unwrap());
    }
    let choose = |image: &RgbImage| {
        let mut chooser = TaskChooser::new(ChooserOptions::independent_images());
        let choice = chooser.observe(&mut engine.pass(image), &tasks).unwrap();
        assert!(choice.switched && choice.without_profile.is_empty());
        assert_eq!(choice.task.is_none(), choice.status == ChoiceStatus::Unknown);
        choice.task.map(|adapter| adapter.task().to_owned())
    };
    let right = (0..60).filter(|&index| {
        let task = index as u32 % 3;
        choose(&image(task, 100 + index)) == Some(format!("task-{task}"))
    });
    let right = right.count();
    assert!(right >= 50, "{right} of 60 right");
    let unknown = (0..20).filter(|&index| choose(&noise(index)).is_none()).count();
    assert!(unknown >= 18, "{unknown} of 20 images of noise unknown");
}

#[test]
fn a_stream_switches_once_per_scene() {
    let engine = small(Kernels::Fused);
    let tasks = TaskSet::new();
    for task in 0..2 {
        tasks.insert(engine.prepare(&with_profile(&engine, task, SIDE)).unwrap());
    }
    let mut chooser = TaskChooser::new(ChooserOptions::default());
    let mut switches = Vec::new();
    for frame in 0..36_u64 {
        let scene = (frame / 12 % 2) as u32;
        let choice = chooser
            .observe(&mut engine.pass(&image(scene, 200 + frame)), &tasks)
            .unwrap();
        if choice.switched {
            switches.push(frame);
        }
        if frame % 12 > 5 {
            assert_eq!(choice.task.unwrap().task(), format!("task-{scene}"));
            assert_eq!(choice.runner_up.unwrap().task, format!("task-{}", 1 - scene));
        }
    }
    assert_eq!(switches.len(), 3, "{switches:?}");
    // Choosing is not switching the set.
    assert!(tasks.active().is_none());
}

#[test]
fn a_task_without_a_profile_is_never_chosen_and_is_reported() {
    let engine = small(Kernels::Fused);
    let tasks = TaskSet::new();
    let mut chooser = TaskChooser::new(ChooserOptions::default());
    let observe =
        |chooser: &mut TaskChooser, tasks: &TaskSet| chooser.observe(&mut engine.pass(&image(0, 300)), tasks).unwrap();
    let choice = observe(&mut chooser, &tasks);
    assert_eq!((choice.status, choice.switched), (ChoiceStatus::NoProfiles, false));

    // An adapter as read from a file of format version 1: no profile, temperature 1.
    let mut old = with_profile(&engine, 0, SIDE);
    old.header.profile = None;
    old.header.task = "old".into();
    let old = engine.prepare(&old).unwrap();
    assert!(old.profile().is_none() && old.temperature() == 1.0);
    tasks.insert(old);
    let choice = observe(&mut chooser, &tasks);
    assert_eq!(choice.status, ChoiceStatus::NoProfiles);
    assert!(choice.task.is_none() && choice.score.is_none());
    assert_eq!(choice.without_profile, ["old"]);

    tasks.insert(engine.prepare(&with_profile(&engine, 0, SIDE)).unwrap());
    let choice = observe(&mut chooser, &tasks);
    assert_eq!(choice.task.unwrap().task(), "task-0");
    assert_eq!(choice.without_profile, ["old"]);
    assert!(choice.runner_up.is_none());

    tasks.remove("task-0").unwrap();
    assert_eq!(observe(&mut chooser, &tasks).status, ChoiceStatus::NoProfiles);
}

#[test]
fn another_task_changes_neither_scores_nor_classifications() {
    for kernels in [Kernels::Fused, Kernels::Tract] {
        let engine = small(kernels);
        let first = Arc::new(engine.prepare(&with_profile(&engine, 0, SIDE)).unwrap());
        let images: Vec<RgbImage> = (0..4).map(|task| image(task, 400)).collect();
        let answers = |tasks: &[Arc<clr_engine::ResidentAdapter>]| -> Vec<_> {
            let of = |image| {
                let logits = engine.classify(&tasks[0], image).unwrap().logits().to_vec();
                (
                    score_tasks(&mut engine.pass(image), tasks, ScoreOptions::default(), |_| true).unwrap()[0].unwrap(),
                    logits,
                )
            };
            images.iter().map(of).collect()
        };
        let before = answers(std::slice::from_ref(&first));
        // Two more tasks: one with the same input size, one with another.
        let more = [with_profile(&engine, 1, SIDE), with_profile(&engine, 2, 48)];
        let all: Vec<_> = std::iter::once(first)
            .chain(more.iter().map(|adapter| Arc::new(engine.prepare(adapter).unwrap())))
            .collect();
        assert_eq!(answers(&all), before);
    }
}

#[test]
fn a_pass_classifies_as_the_engine_does_before_and_after_choosing() {
    for kernels in [Kernels::Fused, Kernels::Tract] {
        let engine = small(kernels);
        let chosen = Arc::new(engine.prepare(&with_profile(&engine, 0, SIDE)).unwrap());
        let mut linear = adapter(engine.backbone(), Recipe::Linear, "linear", 4, 3);
        linear.header.preprocessing = chosen.preprocessing().clone();
        let linear = engine.prepare(&linear).unwrap();
        let tasks = [&*chosen, &linear].map(|task| (task, engine.classify(task, &image(0, 7)).unwrap()));
        let frame = image(0, 7);
        let mut pass = engine.pass(&frame);
        for (task, alone) in &tasks {
            assert_eq!(&pass.classify(task).unwrap(), alone);
        }
        score_tasks(
            &mut pass,
            std::slice::from_ref(&chosen),
            ScoreOptions::default(),
            |_| true,
        )
        .unwrap();
        for (task, alone) in &tasks {
            assert_eq!(&pass.classify(task).unwrap(), alone);
        }
    }
}

#[test]
fn features_equal_those_of_a_linear_adapter() {
    for kernels in [Kernels::Fused, Kernels::Tract] {
        let engine = small(kernels);
        let features = engine.backbone().feature_count();
        let mut linear = adapter(engine.backbone(), Recipe::Linear, "identity", features, 1);
        let mut weight = vec![0.0; features * features];
        weight.iter_mut().step_by(features + 1).for_each(|value| *value = 1.0);
        linear.head = Head {
            features,
            weight,
            bias: vec![0.0; features],
        };
        let image = image(0, 1);
        let preprocessing = &linear.header.preprocessing;
        let logits = engine
            .logits(&engine.prepare(&linear).unwrap(), &preprocessing.preprocess(&image))
            .unwrap();
        assert_eq!(engine.backbone_features(preprocessing, &image).unwrap(), logits);
        let mut pass = engine.pass(&image);
        assert_eq!(pass.backbone_features(preprocessing).unwrap(), logits);
    }
}

#[test]
fn a_temperature_calibrates_probabilities_and_keeps_the_ranking() {
    let engine = small(Kernels::Fused);
    let mut warm = adapter(engine.backbone(), Recipe::Clr, "warm", 7, 5);
    let plain = engine.prepare(&warm).unwrap();
    warm.header.temperature = 3.0;
    let warm = engine.prepare(&warm).unwrap();
    for index in 0..5 {
        let image = image(1, index);
        let (plain, warm) = (
            engine.classify(&plain, &image).unwrap(),
            engine.classify(&warm, &image).unwrap(),
        );
        assert_eq!(plain.logits(), warm.logits());
        let order =
            |answer: &clr_engine::Classification| answer.top(7).iter().map(|ranked| ranked.class).collect::<Vec<_>>();
        assert_eq!(order(&plain), order(&warm));
        assert!(warm.best().unwrap().probability < plain.best().unwrap().probability);
    }
}
