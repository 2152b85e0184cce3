//! Learning a task does not change earlier ones: their logits stay bit-identical.

use std::sync::Arc;

use clr_adapters::{Recipe, decode};
use clr_engine::{Engine, EngineOptions, ResidentAdapter, TaskSet};

use crate::fixtures::{SIDE, image, learn, lite0};

fn bits(engine: &Engine, adapter: &ResidentAdapter) -> Vec<u32> {
    let images = (0..4).map(|class| image(class, 99));
    images
        .flat_map(|image| engine.classify(adapter, &image).unwrap().logits().to_vec())
        .map(f32::to_bits)
        .collect()
}

#[test]
fn the_first_tasks_logits_are_bit_identical_after_two_more_tasks() {
    let engine = Engine::new(lite0().clone(), EngineOptions::default()).unwrap();
    let tasks = TaskSet::new();
    let install = |trained: &clr_training::Trained| {
        tasks.insert(engine.prepare(&decode(&trained.bytes).unwrap().adapter).unwrap());
    };
    let digest = lite0().digest();

    let first = learn(lite0(), Recipe::Clr, 2, 1);
    install(&first);
    let name = first.adapter.header.task.clone();
    let before = bits(&engine, &tasks.switch(&name).unwrap());
    assert!(before.iter().any(|bits| f32::from_bits(*bits) != 0.0));

    for (recipe, seed) in [(Recipe::ClrFull, 2), (Recipe::Bn, 3)] {
        let next = learn(lite0(), recipe, 3, seed);
        install(&next);
        bits(&engine, &tasks.switch(&next.adapter.header.task).unwrap());
    }
    assert_eq!(tasks.len(), 3);
    assert_eq!(lite0().digest(), digest);
    assert_eq!(bits(&engine, &tasks.switch(&name).unwrap()), before);
}

#[test]
fn logits_are_bit_identical_while_other_threads_run_other_tasks() {
    let engine = Engine::new(lite0().clone(), EngineOptions::default()).unwrap();
    let residents: Vec<Arc<ResidentAdapter>> = [Recipe::Clr, Recipe::ClrFull, Recipe::Linear, Recipe::Bn]
        .iter()
        .zip(1..)
        .map(|(recipe, seed)| {
            let adapter = crate::fixtures::random_adapter(lite0(), *recipe, &format!("task {seed}"), 3, seed);
            Arc::new(engine.prepare(&adapter).unwrap())
        })
        .collect();
    let reference: Vec<_> = residents.iter().map(|resident| bits(&engine, resident)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, residents, reference) = (&engine, &residents, &reference);
            scope.spawn(move || {
                for round in 0..8 {
                    let index = (thread + round * 3) % residents.len();
                    assert_eq!(
                        bits(engine, &residents[index]),
                        reference[index],
                        "thread {thread}, round {round}"
                    );
                }
            });
        }
    });
    assert_eq!(SIDE, residents[0].preprocessing().width);
}
