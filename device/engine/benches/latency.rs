//! Benchmark of one image through the engine: backbones × recipes × kernels × threads at 224 pixels.
//!
//! `cargo bench -p clr-engine --bench latency -- 'ResNet18/clr'` runs a subset.

use clr_adapters::Recipe;
use clr_engine::{Engine, EngineOptions, Kernels};
use clr_onnx::{Architecture, identity_adapter, seeded_backbone};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn latency(criterion: &mut Criterion) {
    let architectures = [
        Architecture::EfficientNetLite0,
        Architecture::MobileNetV2,
        Architecture::ResNet18,
        Architecture::ResNet50,
    ];
    for architecture in architectures {
        let backbone = seeded_backbone(architecture, 1, 1000);
        let original = backbone.original_adapter().expect("it has a classifier");
        let preprocessing = backbone.preprocessing().clone();
        let input: Vec<f32> = (0..3 * preprocessing.height * preprocessing.width)
            .map(|index| (index * 7919 % 1013) as f32 / 500.0 - 1.0)
            .collect();
        for recipe in [Recipe::Linear, Recipe::Clr] {
            let adapter = identity_adapter(&backbone, recipe, original.head.clone(), original.header.clone());
            let mut group = criterion.benchmark_group(format!("{}/{recipe}", architecture.name()));
            for kernels in [Kernels::Fused, Kernels::Tract] {
                for threads in [1, 2] {
                    let options = EngineOptions::default().with_threads(threads).with_kernels(kernels);
                    let engine = Engine::new(backbone.clone(), options).expect("the engine starts");
                    let resident = engine.prepare(&adapter).expect("the adapter fits");
                    let id = BenchmarkId::new(format!("{kernels:?}"), format!("{threads} threads"));
                    group.bench_function(id, |bencher| {
                        bencher.iter(|| engine.logits(&resident, &input).expect("the engine answers"));
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = latency
}
criterion_main!(benches);
