//! Benchmark of switching among 1,000 resident adapters. Criterion reports the median; this program computes the tail
//! itself.

use std::{hint::black_box, time::Instant};

use clr_adapters::Recipe;
use clr_engine::{Engine, EngineOptions, TaskSet};
use clr_onnx::{Architecture, identity_adapter, seeded_backbone};
use criterion::{Criterion, criterion_group, criterion_main};

const TASKS: usize = 1000;

fn switch(criterion: &mut Criterion) {
    let backbone = seeded_backbone(Architecture::EfficientNetLite0, 1, 10);
    let original = backbone.original_adapter().expect("it has a classifier");
    let mut adapter = identity_adapter(&backbone, Recipe::Clr, original.head, original.header);
    let engine = Engine::new(backbone, EngineOptions::default()).expect("the engine starts");
    let tasks = TaskSet::new();
    let names: Vec<String> = (0..TASKS).map(|task| format!("task {task}")).collect();
    let mut bytes = 0;
    for name in &names {
        adapter.header.task.clone_from(name);
        let resident = engine.prepare(&adapter).expect("the adapter fits");
        bytes = resident.bytes();
        tasks.insert(resident);
    }
    println!("{TASKS} adapters resident, {bytes} bytes of tensors each");

    // Switches and reads the new active task, as a frame does. The order of the tasks is scattered, to defeat caches.
    let mut at = 0;
    let mut once = || {
        at = (at + 379) % TASKS;
        tasks.switch(&names[at]).expect("the task is resident");
        black_box(tasks.active());
    };
    let mut samples: Vec<u128> = (0..100_000)
        .map(|_| {
            let start = Instant::now();
            once();
            start.elapsed().as_nanos()
        })
        .collect();
    samples.sort_unstable();
    let at = |share: f64| samples[(samples.len() as f64 * share) as usize] as f64 / 1000.0;
    println!(
        "switch: median {:.2} us, p99 {:.2} us, p99.9 {:.2} us",
        at(0.5),
        at(0.99),
        at(0.999)
    );
    criterion.bench_function("switch among 1000", |bencher| bencher.iter(&mut once));
}

criterion_group!(benches, switch);
criterion_main!(benches);
