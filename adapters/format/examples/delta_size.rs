//! Measures the size of deltas between two versions of an adapter.
//!
//! `cargo run --release -p clr-adapters --features delta --example delta_size -- OLD.clr NEW.clr` compares two files.
//! With one file, the example simulates tuning on a device: it adds normal steps to the decoded values and encodes them
//! as int8 again.

use std::{env, error::Error, fs};

use clr_adapters::{Adapter, Encoding, Metrics, Provenance, SiteWeights, decode, delta, encode};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Standard normal, as the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..12)
            .map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32)
            .sum::<f32>()
            - 6.0
    }
}

/// Adds a normal step to every value. The standard deviation is `share` times the root mean square of all values.
fn shift(values: &mut [f32], share: f32, random: &mut Random) {
    let square = values.iter().map(|value| value * value).sum::<f32>() / values.len().max(1) as f32;
    for value in values {
        *value += share * square.sqrt() * random.normal();
    }
}

/// A simulated change: the changed part of an adapter and the size of the steps.
struct Change {
    name: &'static str,
    /// Fraction of the sites that change, counted from the last one.
    sites: f32,
    site_share: f32,
    head_share: f32,
    new_class: bool,
}

fn tuned(parent: &Adapter, digest: clr_adapters::Digest, change: &Change) -> Adapter {
    let mut random = Random(7);
    let mut adapter = parent.clone();
    adapter.header.parent = Some(digest);
    adapter.header.provenance = Provenance::DeviceTuned;
    if let Some(metrics) = &mut adapter.header.metrics {
        *metrics = Metrics {
            accuracy: metrics.accuracy * 0.99,
            created: metrics.created + 86_400,
            ..metrics.clone()
        };
    }
    let first = adapter.sites.len() - (change.sites * adapter.sites.len() as f32).round() as usize;
    for site in &mut adapter.sites[first..] {
        match &mut site.weights {
            SiteWeights::Kernel(values) | SiteWeights::Scale(values) => shift(values, change.site_share, &mut random),
        }
        shift(&mut site.bias, change.site_share, &mut random);
    }
    let features = adapter.head.features;
    for row in adapter.head.weight.chunks_mut(features) {
        shift(row, change.head_share, &mut random);
    }
    shift(&mut adapter.head.bias, change.head_share, &mut random);
    if change.new_class {
        adapter.header.labels.push("new class".into());
        adapter
            .head
            .weight
            .extend((0..features).map(|_| 0.05 * random.normal()));
        adapter.head.bias.push(0.0);
    }
    adapter
}

const CHANGES: [Change; 9] = [
    Change {
        name: "header only",
        sites: 0.0,
        site_share: 0.0,
        head_share: 0.0,
        new_class: false,
    },
    Change {
        name: "one more class",
        sites: 0.0,
        site_share: 0.0,
        head_share: 0.0,
        new_class: true,
    },
    Change {
        name: "head by 2 %, one more class",
        sites: 0.0,
        site_share: 0.0,
        head_share: 0.02,
        new_class: true,
    },
    Change {
        name: "head by 10 %",
        sites: 0.0,
        site_share: 0.0,
        head_share: 0.1,
        new_class: false,
    },
    Change {
        name: "head by 100 %",
        sites: 0.0,
        site_share: 0.0,
        head_share: 1.0,
        new_class: false,
    },
    Change {
        name: "head by 10 %, last third of the sites by 1 %",
        sites: 0.33,
        site_share: 0.01,
        head_share: 0.1,
        new_class: false,
    },
    Change {
        name: "head by 10 %, last third of the sites by 5 %",
        sites: 0.33,
        site_share: 0.05,
        head_share: 0.1,
        new_class: false,
    },
    Change {
        name: "head by 10 %, all sites by 1 %",
        sites: 1.0,
        site_share: 0.01,
        head_share: 0.1,
        new_class: false,
    },
    Change {
        name: "head by 10 %, all sites by 5 %",
        sites: 1.0,
        site_share: 0.05,
        head_share: 0.1,
        new_class: false,
    },
];

fn row(name: &str, base: &[u8], target: &[u8]) -> Result<(), Box<dyn Error>> {
    let size = match delta::diff(base, target) {
        Some(delta) => {
            if delta::apply(base, &delta, target.len())? != target {
                return Err("the delta does not give the file".into());
            }
            format!(
                "{} | {:.1} %",
                delta.len(),
                100.0 * delta.len() as f64 / target.len() as f64
            )
        }
        None => "– | whole file".into(),
    };
    println!("| {name} | {} | {size} |", target.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<_> = env::args().skip(1).collect();
    println!("| change | bytes | delta | of the whole |\n|---|---|---|---|");
    match paths.as_slice() {
        [base, target] => row(target, &fs::read(base)?, &fs::read(target)?),
        [path] => {
            let parent = decode(&fs::read(path)?)?;
            let base = encode(&parent.adapter, Encoding::Int8)?;
            let digest = clr_adapters::Digest::of(&base);
            CHANGES.iter().try_for_each(|change| {
                let target = encode(&tuned(&parent.adapter, digest, change), Encoding::Int8)?;
                row(change.name, &base, &target)
            })
        }
        _ => Err("one or two adapter files, please".into()),
    }
}
