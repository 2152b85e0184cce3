//! Classifying with several tasks in one pass gives the same results as classifying with each task alone.

use std::sync::Arc;

use clr_adapters::{Adapter, Recipe};
use clr_engine::{EngineError, Kernels, ResidentAdapter};
use clr_onnx::{Architecture, Backbone, RgbImage, with_all_sites};

use crate::common::{adapter, assert_close, backbone, engine, image};

fn photo() -> RgbImage {
    RgbImage::from_fn(90, 70, |x, y| image::Rgb([x as u8 * 2, y as u8 * 3, (x * y) as u8]))
}

/// Returns an adapter that only has the last `count` of its recipe's sites.
fn late(backbone: &Backbone, recipe: Recipe, count: usize, seed: u64) -> Adapter {
    let mut adapter = adapter(backbone, recipe, &format!("late {seed}"), 4, seed);
    adapter.sites.drain(..adapter.sites.len() - count);
    adapter
}

/// Returns two `linear` tasks, two with the same last sites, one with more of the last sites, two with all sites, and one
/// with another preprocessing.
fn tasks(backbone: &Backbone) -> Vec<Adapter> {
    let mut other = adapter(backbone, Recipe::Clr, "other input", 3, 9);
    other.header.preprocessing.mean = [10.0, 20.0, 30.0];
    vec![
        adapter(backbone, Recipe::Linear, "one", 5, 1),
        late(backbone, Recipe::Clr, 4, 2),
        adapter(backbone, Recipe::Clr, "two", 7, 3),
        other,
        late(backbone, Recipe::Bn, 9, 4),
        adapter(backbone, Recipe::Linear, "three", 2, 5),
        late(backbone, Recipe::Clr, 4, 6),
        adapter(backbone, Recipe::ClrFull, "four", 6, 7),
    ]
}

#[test]
fn classifying_with_all_tasks_is_bit_identical_to_classifying_with_each() {
    for architecture in [Architecture::ResNet18, Architecture::MobileNetV2] {
        let backbone = backbone(architecture, 48);
        for (threads, kernels) in [(1, Kernels::Fused), (3, Kernels::Fused), (1, Kernels::Tract)] {
            let engine = engine(backbone.clone(), threads, kernels);
            let adapters = tasks(&backbone).into_iter();
            let tasks: Vec<_> = adapters
                .map(|adapter| Arc::new(engine.prepare(&adapter).unwrap()))
                .collect();
            let alone: Vec<_> = tasks
                .iter()
                .map(|task| engine.classify(task, &photo()).unwrap())
                .collect();
            for count in 0..=tasks.len() {
                let all = engine.classify_all(&tasks[..count], &photo());
                let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
                assert_eq!(all, alone[..count], "{architecture:?}, {threads} threads, {kernels:?}");
            }
        }
    }
}

#[test]
fn an_adapter_with_only_the_last_sites_equals_one_with_the_backbones_norms_before_them() {
    let backbone = backbone(Architecture::MobileNetV2, 48);
    let input = image(&backbone, 3);
    for recipe in [Recipe::Bn, Recipe::Clr, Recipe::ClrFull] {
        let late = late(&backbone, recipe, 5, 8);
        let complete = with_all_sites(&backbone, &late).into_owned();
        assert!(complete.sites.len() > late.sites.len());
        for kernels in [Kernels::Fused, Kernels::Tract] {
            let engine = engine(backbone.clone(), 1, kernels);
            let [late, complete] = [&late, &complete].map(|adapter| engine.prepare(adapter).unwrap());
            let [got, want] = [&late, &complete].map(|task| engine.logits(task, &input).unwrap());
            assert_close(&got, &want, 1e-5, &format!("{recipe} on {kernels:?}"));
            if kernels == Kernels::Fused {
                assert!(
                    late.bytes() < complete.bytes() / 2,
                    "the backbone's own sites take no memory"
                );
            }
        }
    }
}

#[test]
fn a_failing_task_does_not_affect_the_results_of_the_others() {
    let backbone = backbone(Architecture::MobileNetV2, 48);
    let [mine, other] = [0; 2].map(|_| engine(backbone.clone(), 1, Kernels::Fused));
    let good = adapter(&backbone, Recipe::Linear, "good", 3, 1);
    let mut bad = adapter(&backbone, Recipe::Linear, "bad", 3, 2);
    bad.head.weight.fill(f32::MAX);
    let tasks: [ResidentAdapter; 2] = [&good, &bad].map(|adapter| mine.prepare(adapter).unwrap());
    let [answer, failure] = &mine.classify_all(&tasks, &photo())[..] else {
        panic!("expected two results")
    };
    assert_eq!(answer.as_ref().unwrap(), &mine.classify(&tasks[0], &photo()).unwrap());
    assert!(matches!(failure, Err(EngineError::NotFinite { task, .. }) if task == "bad"));

    let foreign = other.prepare(&good).unwrap();
    let results = mine.classify_all(&[&tasks[0], &foreign], &photo());
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(EngineError::OtherEngine { .. })));
}
