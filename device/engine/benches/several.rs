//! Benchmark of several tasks on one image: `linear` tasks, and tasks that only reprogram the network's last block.
//!
//! `cargo bench -p clr-engine --bench several`

use clr_adapters::Recipe;
use clr_engine::{Engine, EngineOptions, ResidentAdapter};
use clr_onnx::{Architecture, RgbImage, identity_adapter, seeded_backbone};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Sites of EfficientNet-Lite0's last block and of the convolution after it.
const LAST_SITES: usize = 4;

fn several(criterion: &mut Criterion) {
    let backbone = seeded_backbone(Architecture::EfficientNetLite0, 1, 10);
    let engine = Engine::new(backbone.clone(), EngineOptions::default()).expect("the engine starts");
    let original = backbone.original_adapter().expect("it has a classifier");
    let task = |recipe: Recipe, sites: usize| -> ResidentAdapter {
        let mut adapter = identity_adapter(&backbone, recipe, original.head.clone(), original.header.clone());
        adapter.sites.drain(..adapter.sites.len() - sites);
        engine.prepare(&adapter).expect("the adapter fits")
    };
    let image = RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut group = criterion.benchmark_group("EfficientNet-Lite0 at 224 pixels, one thread");
    for (name, recipe, sites) in [("linear", Recipe::Linear, 0), ("late clr", Recipe::Clr, LAST_SITES)] {
        for count in [1, 3, 8] {
            let tasks: Vec<_> = (0..count).map(|_| task(recipe, sites)).collect();
            group.bench_function(BenchmarkId::new(name, format!("{count} tasks")), |bencher| {
                bencher.iter(|| engine.classify_all(&tasks, &image));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = several
}
criterion_main!(benches);
