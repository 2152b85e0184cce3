//! Scores against a background: they depend only on the image and the task, and the head has a say.

use std::sync::{Arc, OnceLock};

use clr_adapters::OwnScores;
use clr_engine::{
    ChoiceStatus, ChooserOptions, Engine, Kernels, ResidentAdapter, ScoreOptions, TaskChooser, TaskSet, score_tasks,
};
use clr_onnx::{Architecture, Backbone, RgbImage};

use crate::{
    common::{backbone, engine},
    scenes::{background, image, noise, with_profile_against},
};

const SIDE: u32 = 32;

/// Returns a backbone with a background, fitted once for each of the two seeds.
fn with_background(seed: u64) -> Backbone {
    static FITTED: [OnceLock<Backbone>; 2] = [OnceLock::new(), OnceLock::new()];
    let fit = || {
        let backbone = backbone(Architecture::MobileNetV2, SIDE);
        let background = background(&backbone, SIDE, seed);
        backbone.with_background(background).unwrap()
    };
    FITTED[seed as usize % 2].get_or_init(fit).clone()
}

fn prepared(engine: &Engine, tasks: u32) -> Vec<Arc<ResidentAdapter>> {
    let background = engine.backbone().background().unwrap().clone();
    let prepare = |task| {
        engine
            .prepare(&with_profile_against(engine.backbone(), &background, task, SIDE))
            .unwrap()
    };
    (0..tasks).map(|task| Arc::new(prepare(task))).collect()
}

#[test]
fn the_chosen_task_is_the_images_own_and_noise_is_unknown() {
    let engine = engine(with_background(1), 1, Kernels::Fused);
    let tasks = TaskSet::new();
    for task in prepared(&engine, 3) {
        tasks.insert(Arc::try_unwrap(task).unwrap());
    }
    let choose = |image: &RgbImage| {
        let mut chooser = TaskChooser::new(ChooserOptions::independent_images());
        let choice = chooser.observe(&mut engine.pass(image), &tasks).unwrap();
        assert!(choice.without_profile.is_empty());
        assert_eq!(choice.task.is_none(), choice.status == ChoiceStatus::Unknown);
        choice.task.map(|adapter| adapter.task().to_owned())
    };
    let right = (0..60).filter(|&index| {
        let task = index as u32 % 3;
        choose(&image(task, 200 + index)) == Some(format!("task-{task}"))
    });
    let right = right.count();
    assert!(right >= 50, "{right} of 60 right");
    let unknown = (0..20).filter(|&index| choose(&noise(index)).is_none()).count();
    assert!(unknown >= 18, "{unknown} of 20 images of noise unknown");
}

#[test]
fn the_rate_of_false_alarms_is_the_one_asked_for() {
    let engine = engine(with_background(1), 1, Kernels::Fused);
    let tasks = TaskSet::new();
    tasks.insert(Arc::try_unwrap(prepared(&engine, 1).remove(0)).unwrap());
    let alarms = |rate: f32| {
        let options = ChooserOptions::independent_images().with_false_alarms(rate);
        let unknown = (300..400).filter(|&index| {
            let mut chooser = TaskChooser::new(options);
            let choice = chooser.observe(&mut engine.pass(&image(0, index)), &tasks).unwrap();
            choice.status == ChoiceStatus::Unknown
        });
        unknown.count()
    };
    let [few, half] = [0.05, 0.5].map(alarms);
    assert!(few <= 20 && (30..=70).contains(&half), "{few} and {half} of 100");
}

#[test]
fn another_task_changes_no_score_and_a_kept_classification_no_bit() {
    let engine = engine(with_background(1), 1, Kernels::Fused);
    let all = prepared(&engine, 3);
    for index in 0..4 {
        let image = image(index % 3, 400);
        let scores = |tasks: &[Arc<ResidentAdapter>]| {
            score_tasks(&mut engine.pass(&image), tasks, ScoreOptions::default(), |_| true).unwrap()[0].unwrap()
        };
        assert_eq!(scores(&all[..1]), scores(&all));
        let mut pass = engine.pass(&image);
        let options = ScoreOptions::default().with_heads(3);
        score_tasks(&mut pass, &all, options, |_| true).unwrap();
        for task in &all {
            assert_eq!(pass.classify(task).unwrap(), engine.classify(task, &image).unwrap());
        }
    }
}

#[test]
fn tasks_that_begin_late_are_classified_from_the_pass_that_chose_them_with_the_same_bits() {
    for backbone in [with_background(1), backbone(Architecture::MobileNetV2, SIDE)] {
        let engine = engine(backbone, 1, Kernels::Fused);
        let tasks: Vec<Arc<ResidentAdapter>> = (0..6)
            .map(|task| {
                let mut adapter = match engine.backbone().background() {
                    Some(background) => with_profile_against(engine.backbone(), background, task, SIDE),
                    None => crate::scenes::with_profile(&engine, task, SIDE),
                };
                // More different first sites than the pass keeps activations for.
                adapter.sites.drain(..adapter.sites.len() - 1 - 3 * task as usize);
                Arc::new(engine.prepare(&adapter).unwrap())
            })
            .collect();
        for index in 0..3 {
            let image = image(index, 600);
            let mut pass = engine.pass(&image);
            score_tasks(&mut pass, &tasks, ScoreOptions::default(), |_| true).unwrap();
            for task in &tasks {
                assert_eq!(pass.classify(task).unwrap(), engine.classify(task, &image).unwrap());
            }
        }
    }
}

#[test]
fn a_head_that_finds_no_class_makes_the_image_less_usual_unless_it_may_not_be_asked() {
    let engine = engine(with_background(1), 1, Kernels::Fused);
    let background = engine.backbone().background().unwrap().clone();
    let mut adapter = with_profile_against(engine.backbone(), &background, 0, SIDE);
    let plain = Arc::new(engine.prepare(&adapter).unwrap());
    let Some(OwnScores::Ratios(ratios)) = adapter.header.profile.as_mut().map(|profile| &mut profile.own_scores) else {
        unreachable!("learned against a background")
    };
    // A median far above every logit of this head.
    ratios.head = Some(clr_adapters::HeadEnergy {
        median: 1_000.0,
        weight: 0.01,
    });
    let doubting = Arc::new(engine.prepare(&adapter).unwrap());
    let image = image(0, 500);
    let score = |task: &Arc<ResidentAdapter>, allowed: bool| {
        let tasks = std::slice::from_ref(task);
        score_tasks(&mut engine.pass(&image), tasks, ScoreOptions::default(), |_| allowed).unwrap()[0].unwrap()
    };
    assert_eq!(score(&doubting, false), score(&plain, true));
    let (without, with) = (score(&plain, true), score(&doubting, true));
    assert_eq!(with.score, without.score);
    assert!(with.ood_score > without.ood_score + 1.0, "{with:?} {without:?}");
}

#[test]
fn a_profile_of_another_background_or_of_sketches_is_not_scored_and_is_reported() {
    let engine = engine(with_background(1), 1, Kernels::Fused);
    let other = with_background(2);
    let foreign = with_profile_against(&other, other.background().unwrap(), 0, SIDE);
    let mut sketches = crate::scenes::with_profile(&engine, 1, SIDE);
    sketches.header.task = "sketches".into();
    let tasks = TaskSet::new();
    for adapter in [&foreign, &sketches] {
        tasks.insert(engine.prepare(adapter).unwrap());
    }
    let mut chooser = TaskChooser::new(ChooserOptions::default());
    let image = image(0, 300);
    let choice = chooser.observe(&mut engine.pass(&image), &tasks).unwrap();
    assert_eq!(choice.status, ChoiceStatus::NoProfiles);
    assert_eq!(choice.without_profile, ["sketches", "task-0"]);
    // Without a background, profiles of sketches are the ones that count.
    let plain = crate::common::engine(backbone(Architecture::MobileNetV2, SIDE), 1, Kernels::Fused);
    let tasks = TaskSet::new();
    for adapter in [&foreign, &sketches] {
        tasks.insert(plain.prepare(adapter).unwrap());
    }
    let choice = chooser.observe(&mut plain.pass(&image), &tasks).unwrap();
    assert_eq!(choice.without_profile, ["task-0"]);
}
