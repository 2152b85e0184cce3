//! Benchmark of decoding a file of format version 3, as a device does when it loads a task.
//!
//! Decodes generated adapters of EfficientNet-Lite0's size, and the files in the environment variable `CLR_FILES`,
//! separated by colons. `cargo bench -p clr-adapters --bench decode`

use std::{env, fs, hint::black_box};

use clr_adapters::{Adapter, Encoding, SiteWeights, decode, encode};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sample::Random;

#[path = "../tests/sample.rs"]
#[expect(dead_code, reason = "the benchmark needs only the large adapter")]
mod sample;

/// Returns an adapter with this fraction of its differences and of its spread; the rest is exactly 0, as after training
/// for few bytes.
fn sparse(fraction: f32) -> Adapter {
    let mut random = Random(1);
    let mut adapter = sample::compact(&sample::lite0());
    let mut thin = |values: &mut Vec<f32>| {
        for value in values {
            if random.uniform() > fraction {
                *value = 0.0;
            }
        }
    };
    for site in &mut adapter.sites {
        match &mut site.weights {
            SiteWeights::Kernel(values) | SiteWeights::Scale(values) => thin(values),
        }
        site.bias.fill(0.0);
    }
    thin(&mut adapter.head.weight);
    let known = adapter.header.class_features.as_mut().expect("it has class features");
    thin(&mut known.deviations);
    thin(&mut known.directions);
    adapter
}

fn decoding(criterion: &mut Criterion) {
    let generated = [0.12, 0.3].map(|fraction| {
        let file = encode(&sparse(fraction), Encoding::Compact).expect("the adapter is valid");
        ("generated".to_owned(), file)
    });
    let named = env::var("CLR_FILES").unwrap_or_default();
    let read = named.split(':').filter(|path| !path.is_empty()).map(|path| {
        let file = fs::read(path).unwrap_or_else(|error| panic!("'{path}': {error}"));
        (path.to_owned(), file)
    });
    let mut group = criterion.benchmark_group("decode");
    for (name, file) in generated.into_iter().chain(read) {
        group.bench_function(BenchmarkId::new(name, format!("{} bytes", file.len())), |bencher| {
            bencher.iter(|| decode(black_box(&file)).expect("the file is valid"));
        });
    }
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
