//! The task is chosen by the picture alone, and nothing that is chosen changes an answer.

use std::sync::Arc;

use clr_adapters::{Adapter, Encoding, Head, Profile, Recipe, decode, encode};
use clr_device::{ChooserOptions, Engine, Kernels, Status, TaskChooser, TaskSet, score_tasks};
use clr_onnx::{Architecture, Preprocess as _, RgbImage};

use crate::common::{Random, adapter, backbone, engine};

const SIDE: u32 = 32;

/// Pictures that have a look of their own: stripes of a direction, spacing and colour that belong to the task.
pub(crate) fn picture(task: u32, index: u64) -> RgbImage {
    let mut random = Random(1 + u64::from(task) * 1_000_003 + index * 7_919);
    let angle = task as f32 * 0.8 + 0.15 * random.value();
    let spacing = 3.0 + 2.5 * task as f32 + 0.5 * random.value();
    let phase = 3.0 * random.value();
    let tint = [0, 1, 2].map(|channel| 60.0 + 150.0 * ((task + channel) % 3) as f32 / 2.0 + 15.0 * random.value());
    RgbImage::from_fn(48, 48, |x, y| {
        let along = x as f32 * angle.cos() + y as f32 * angle.sin();
        let wave = (along * std::f32::consts::TAU / spacing + phase).sin();
        image::Rgb(tint.map(|tint| (tint + 60.0 * wave + 10.0 * random.value()).clamp(0.0, 255.0) as u8))
    })
}

/// A picture of none of the tasks.
pub(crate) fn noise(index: u64) -> RgbImage {
    let mut random = Random(1 + index);
    RgbImage::from_fn(48, 48, |_, _| {
        image::Rgb([0; 3].map(|_| (128.0 + 127.0 * random.value()) as u8))
    })
}

/// An adapter for a task of the pictures above, with the profile of 60 of them.
pub(crate) fn with_profile(engine: &Engine, task: u32, side: u32) -> Adapter {
    let mut adapter = adapter(
        engine.backbone(),
        Recipe::Clr,
        &format!("task-{task}"),
        3,
        u64::from(task),
    );
    let preprocessing = &mut adapter.header.preprocessing;
    (preprocessing.height, preprocessing.width) = (side, side);
    let features = |range: std::ops::Range<u64>| -> Vec<Vec<f32>> {
        let of = |index| engine.backbone_features(&adapter.header.preprocessing, &picture(task, index));
        range.map(|index| of(index).unwrap()).collect()
    };
    let (training, validation) = (features(0..60), features(60..90));
    adapter.header.profile = Profile::learn(training.iter().map(Vec::as_slice), validation.iter().map(Vec::as_slice));
    assert!(adapter.header.profile.is_some());
    decode(&encode(&adapter, Encoding::Int8).unwrap()).unwrap().adapter
}

fn small(kernels: Kernels) -> Engine {
    engine(backbone(Architecture::MobileNetV2, SIDE), 1, kernels)
}

#[test]
fn the_chosen_task_is_the_pictures_own_and_a_stranger_is_unknown() {
    let engine = small(Kernels::Fused);
    let tasks = TaskSet::new();
    for task in 0..3 {
        tasks.insert(engine.prepare(&with_profile(&engine, task, SIDE)).unwrap());
    }
    let choose = |picture: &RgbImage| {
        let mut chooser = TaskChooser::new(ChooserOptions::single_pictures());
        let choice = chooser.observe(&engine, &tasks, picture).unwrap();
        assert!(choice.switched && choice.without_profile.is_empty());
        assert_eq!(choice.task.is_none(), choice.status == Status::Unknown);
        choice.task.map(|adapter| adapter.task().to_owned())
    };
    let right = (0..60).filter(|&index| {
        let task = index as u32 % 3;
        choose(&picture(task, 100 + index)) == Some(format!("task-{task}"))
    });
    let right = right.count();
    assert!(right >= 50, "{right} of 60 right");
    let unknown = (0..20).filter(|&index| choose(&noise(index)).is_none()).count();
    assert!(unknown >= 18, "{unknown} of 20 strangers unknown");
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
        let choice = chooser.observe(&engine, &tasks, &picture(scene, 200 + frame)).unwrap();
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
fn a_task_without_a_profile_is_never_chosen_and_named() {
    let engine = small(Kernels::Fused);
    let tasks = TaskSet::new();
    let mut chooser = TaskChooser::new(ChooserOptions::default());
    let observe =
        |chooser: &mut TaskChooser, tasks: &TaskSet| chooser.observe(&engine, tasks, &picture(0, 300)).unwrap();
    let choice = observe(&mut chooser, &tasks);
    assert_eq!((choice.status, choice.switched), (Status::NoProfiles, false));

    // As a file of format version 1 is read: no profile, temperature 1.
    let mut old = with_profile(&engine, 0, SIDE);
    old.header.profile = None;
    old.header.task = "old".into();
    let old = engine.prepare(&old).unwrap();
    assert!(old.profile().is_none() && old.temperature() == 1.0);
    tasks.insert(old);
    let choice = observe(&mut chooser, &tasks);
    assert_eq!(choice.status, Status::NoProfiles);
    assert!(choice.task.is_none() && choice.score.is_none());
    assert_eq!(choice.without_profile, ["old"]);

    tasks.insert(engine.prepare(&with_profile(&engine, 0, SIDE)).unwrap());
    let choice = observe(&mut chooser, &tasks);
    assert_eq!(choice.task.unwrap().task(), "task-0");
    assert_eq!(choice.without_profile, ["old"]);
    assert!(choice.runner_up.is_none());

    tasks.remove("task-0").unwrap();
    assert_eq!(observe(&mut chooser, &tasks).status, Status::NoProfiles);
}

#[test]
fn another_task_changes_neither_scores_nor_answers() {
    for kernels in [Kernels::Fused, Kernels::Tract] {
        let engine = small(kernels);
        let first = Arc::new(engine.prepare(&with_profile(&engine, 0, SIDE)).unwrap());
        let pictures: Vec<RgbImage> = (0..4).map(|task| picture(task, 400)).collect();
        let answers = |tasks: &[Arc<clr_device::ResidentAdapter>]| -> Vec<_> {
            let of = |picture| {
                let logits = engine.classify(&tasks[0], picture).unwrap().logits().to_vec();
                (score_tasks(&engine, tasks, picture).unwrap()[0].unwrap(), logits)
            };
            pictures.iter().map(of).collect()
        };
        let before = answers(std::slice::from_ref(&first));
        // One at the same size, one at another.
        let more = [with_profile(&engine, 1, SIDE), with_profile(&engine, 2, 48)];
        let all: Vec<_> = std::iter::once(first)
            .chain(more.iter().map(|adapter| Arc::new(engine.prepare(adapter).unwrap())))
            .collect();
        assert_eq!(answers(&all), before);
    }
}

#[test]
fn features_are_those_that_a_linear_head_sees() {
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
        let picture = picture(0, 1);
        let preprocessing = &linear.header.preprocessing;
        let logits = engine
            .logits(&engine.prepare(&linear).unwrap(), &preprocessing.preprocess(&picture))
            .unwrap();
        assert_eq!(engine.backbone_features(preprocessing, &picture).unwrap(), logits);
    }
}

#[test]
fn a_temperature_calibrates_the_answer_and_leaves_its_ranking() {
    let engine = small(Kernels::Fused);
    let mut warm = adapter(engine.backbone(), Recipe::Clr, "warm", 7, 5);
    let plain = engine.prepare(&warm).unwrap();
    warm.header.temperature = 3.0;
    let warm = engine.prepare(&warm).unwrap();
    for index in 0..5 {
        let picture = picture(1, index);
        let (plain, warm) = (
            engine.classify(&plain, &picture).unwrap(),
            engine.classify(&warm, &picture).unwrap(),
        );
        assert_eq!(plain.logits(), warm.logits());
        let order =
            |answer: &clr_device::Classification| answer.top(7).iter().map(|ranked| ranked.class).collect::<Vec<_>>();
        assert_eq!(order(&plain), order(&warm));
        assert!(warm.best().unwrap().probability < plain.best().unwrap().probability);
    }
}
