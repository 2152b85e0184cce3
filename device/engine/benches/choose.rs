//! Benchmark of automatic task choice, per frame: one forward pass of the unmodified backbone, then a sketch and a
//! triangular product per task.
//!
//! `cargo bench -p clr-engine --bench choose`

use std::{hint::black_box, sync::Arc};

use clr_adapters::{Profile, Recipe, sketch};
use clr_engine::{Engine, EngineOptions, ScoreOptions, score_tasks};
use clr_onnx::{Architecture, RgbImage, identity_adapter, seeded_backbone};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn rows(count: usize, seed: usize) -> Vec<Vec<f32>> {
    let value = |index: usize| ((index + seed) * 7919 % 1013) as f32 / 500.0;
    (0..count)
        .map(|row| (0..1280).map(|column| value(row * 1280 + column)).collect())
        .collect()
}

fn choose(criterion: &mut Criterion) {
    let (training, validation) = (rows(200, 1), rows(50, 2));
    let slices = |rows: &'static [Vec<f32>]| rows.iter().map(Vec::as_slice);
    let profile = Profile::learn(slices(training.leak()), slices(validation.leak())).expect("enough images");
    let features = &rows(1, 3)[0];
    criterion.bench_function("sketch of 1280 features", |bencher| {
        bencher.iter(|| sketch(black_box(features), Profile::DIMENSIONS));
    });
    let sketched = sketch(features, Profile::DIMENSIONS);
    criterion.bench_function("distance from one profile", |bencher| {
        bencher.iter(|| profile.distance(black_box(&sketched)));
    });

    let backbone = seeded_backbone(Architecture::EfficientNetLite0, 1, 1000);
    let engine = Engine::new(backbone.clone(), EngineOptions::default()).expect("the engine starts");
    let original = backbone.original_adapter().expect("it has a classifier");
    let image = RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut group = criterion.benchmark_group("scores of a 224 pixel image on EfficientNet-Lite0");
    for count in [1, 10, 100] {
        let tasks: Vec<_> = (0..count)
            .map(|task| {
                let mut header = original.header.clone();
                header.task = format!("task {task}");
                header.profile = Some(profile.clone());
                let adapter = identity_adapter(&backbone, Recipe::Linear, original.head.clone(), header);
                Arc::new(engine.prepare(&adapter).expect("the adapter fits"))
            })
            .collect();
        group.bench_function(BenchmarkId::from_parameter(format!("{count} tasks")), |bencher| {
            bencher.iter(|| {
                score_tasks(&mut engine.pass(&image), &tasks, ScoreOptions::default(), |_| true)
                    .expect("the backbone runs")
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = choose
}
criterion_main!(benches);
