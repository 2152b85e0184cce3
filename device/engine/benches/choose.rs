//! Benchmark of automatic task choice, per frame: one forward pass of the unmodified backbone, then coordinates in the
//! background (or a sketch) and a triangular product per task, then the classification.
//!
//! `cargo bench -p clr-engine --bench choose`

use std::{hint::black_box, sync::Arc};

use clr_adapters::{Background, Digest, Moments, Profile, Recipe, sketch};
use clr_engine::{Engine, EngineOptions, ResidentAdapter, ScoreOptions, score_tasks};
use clr_onnx::{Architecture, RgbImage, identity_adapter, seeded_backbone};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn rows(count: usize, seed: usize) -> Vec<Vec<f32>> {
    let value = |index: usize| ((index + seed) * 7919 % 1013) as f32 / 500.0;
    (0..count)
        .map(|row| (0..1280).map(|column| value(row * 1280 + column)).collect())
        .collect()
}

/// Number of block statistics of EfficientNet-Lite0.
const STATISTICS: usize = 1_568;

fn background() -> Background {
    let rows: Vec<Vec<f32>> = rows(Profile::DIMENSIONS, 9)
        .into_iter()
        .map(|row| row.repeat(2)[..STATISTICS].to_vec())
        .collect();
    let covariance = Profile::DIMENSIONS * (Profile::DIMENSIONS + 1) / 2;
    let moments = |_: &dyn Fn(&[f32]) -> Vec<f32>| Moments {
        mean: vec![0.0; Profile::DIMENSIONS],
        variance: vec![1.0; Profile::DIMENSIONS],
        within: vec![1.0; covariance],
    };
    Background::new(Digest([0; 32]), &rows, moments).expect("the lengths fit")
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

    let background = background();
    let statistics = &rows(1, 4)[0].repeat(2)[..STATISTICS];
    criterion.bench_function("coordinates of 1568 block statistics", |bencher| {
        bencher.iter(|| background.coordinates(black_box(statistics)));
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

    let mut group = criterion.benchmark_group("choice among 8 tasks and classification, 224 pixels");
    let sites = backbone.sites().len();
    for (name, recipe, sites) in [
        ("linear", Recipe::Linear, 0),
        ("bn, last 4 sites", Recipe::Bn, 4),
        ("bn, all sites", Recipe::Bn, sites),
    ] {
        let tasks: Vec<Arc<ResidentAdapter>> = (0..8)
            .map(|task| {
                let mut header = original.header.clone();
                header.task = format!("task {task}");
                header.profile = Some(profile.clone());
                let mut adapter = identity_adapter(&backbone, recipe, original.head.clone(), header);
                adapter.sites.drain(..adapter.sites.len() - sites);
                Arc::new(engine.prepare(&adapter).expect("the adapter fits"))
            })
            .collect();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let mut pass = engine.pass(&image);
                score_tasks(&mut pass, &tasks, ScoreOptions::default(), |_| true).expect("the backbone runs");
                pass.classify(&tasks[5]).expect("the backbone runs")
            });
        });
    }
    group.bench_function("one named task", |bencher| {
        let adapter = identity_adapter(&backbone, Recipe::Bn, original.head.clone(), original.header.clone());
        let task = engine.prepare(&adapter).expect("the adapter fits");
        bencher.iter(|| engine.classify(&task, &image).expect("the backbone runs"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = choose
}
criterion_main!(benches);
