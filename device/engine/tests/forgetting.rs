//! The results of task 1 stay bit-identical, whatever happens to other tasks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use clr_adapters::Recipe;
use clr_engine::{Kernels, TaskSet};
use clr_onnx::Architecture;

use crate::common::{adapter, backbone, engine, image};

#[test]
fn later_tasks_leave_the_first_one_bit_identical() {
    let backbone = backbone(Architecture::ResNet18, 48);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let input = image(&backbone, 1);
    let first = engine
        .prepare(&adapter(&backbone, Recipe::Clr, "first", 10, 1))
        .unwrap();
    let want = engine.logits(&first, &input).unwrap();
    for seed in 2..8 {
        let recipe = Recipe::ALL[seed as usize % Recipe::ALL.len()];
        let other = engine.prepare(&adapter(&backbone, recipe, "other", 5, seed)).unwrap();
        assert_ne!(engine.logits(&other, &input).unwrap(), want[..5]);
        assert_eq!(engine.logits(&first, &input).unwrap(), want);
    }
}

/// Four threads classify with the active task while two others switch, replace and remove tasks. Every result is
/// exactly that of the adapter that the frame took.
#[test]
fn switch_under_load() {
    const TASKS: u64 = 4;
    const FRAMES: usize = 30;
    for threads in [1, 2] {
        let backbone = backbone(Architecture::MobileNetV2, 32);
        let engine = engine(backbone.clone(), threads, Kernels::Fused);
        let input = image(&backbone, 9);
        let recipes = [Recipe::Clr, Recipe::Linear, Recipe::Bn, Recipe::ClrFull];
        let make = |task: u64| {
            adapter(
                &backbone,
                recipes[task as usize],
                &format!("task {task}"),
                10,
                100 + task,
            )
        };
        let adapters: Vec<_> = (0..TASKS).map(make).collect();
        let tasks = TaskSet::new();
        let want: Vec<Vec<f32>> = adapters
            .iter()
            .map(|adapter| {
                let resident = engine.prepare(adapter).unwrap();
                let answer = engine.logits(&resident, &input).unwrap();
                tasks.insert(resident);
                answer
            })
            .collect();
        tasks.switch("task 0").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..FRAMES {
                            let Some(active) = tasks.active() else { continue };
                            let got = engine.logits(&active, &input).unwrap();
                            let task: usize = active.task()["task ".len()..].parse().unwrap();
                            assert_eq!(got, want[task], "{}", active.task());
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut switches = 0u64;
                while !done.load(Ordering::Relaxed) {
                    // Task 3 is repeatedly added and removed; the others stay.
                    let _ = tasks.switch(&format!("task {}", switches % TASKS));
                    switches += 1;
                    std::thread::yield_now();
                }
                assert!(switches > 0);
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    tasks.insert(engine.prepare(&adapters[1]).unwrap());
                    let _ = tasks.remove("task 3");
                    tasks.insert(engine.prepare(&adapters[3]).unwrap());
                }
            });
            for reader in readers {
                reader.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_frame_keeps_its_adapter_when_the_task_is_removed() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let input = image(&backbone, 9);
    let tasks = TaskSet::new();
    tasks.insert(engine.prepare(&adapter(&backbone, Recipe::Clr, "gone", 4, 1)).unwrap());
    let taken = tasks.switch("gone").unwrap();
    let want = engine.logits(&taken, &input).unwrap();
    let removed = tasks.remove("gone").unwrap();
    assert!(Arc::ptr_eq(&taken, &removed) && tasks.active().is_none());
    drop(removed);
    assert_eq!(engine.logits(&taken, &input).unwrap(), want);
    assert_eq!(Arc::strong_count(&taken), 1, "nothing else holds a removed task");
}
