//! Measures the size and the error of every encoding, next to simpler encodings.
//!
//! `cargo run --release -p clr-adapters --example quantisation_error [-- FILE.clr]` takes an adapter of
//! EfficientNet-Lite0's size with synthetic values (γ/σ log-normal, kernels identity + N(0, 0.05), biases normal), or
//! the values of a file written as f32. Errors are relative root mean squares. The error of a kernel is relative to its
//! channel's norm, the error of a scale to the scale itself, and the error of a bias or a head weight to the root mean
//! square of its site or class row.

use std::{env, error::Error, fs};

use clr_adapters::{Adapter, Encoding, SiteWeights, decode, encode, quantised};

#[path = "../tests/sample.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod sample;

/// Numbers of one part of an adapter, before and after a round trip.
type Pair = (Vec<f32>, Vec<f32>);

fn main() -> Result<(), Box<dyn Error>> {
    let adapter = match env::args().nth(1) {
        Some(path) => decode(&fs::read(path)?)?.adapter,
        None => sample::lite0(),
    };
    sizes(&adapter)?;
    println!(
        "\n{:28}{:>10}{:>10}{:>10}{:>12}",
        "relative error", "kernels", "scales", "biases", "head weight"
    );
    for encoding in [Encoding::F16, Encoding::Int8] {
        let parts = Parts::of(&adapter, &quantised(&adapter, encoding)?);
        parts.print(encoding.name());
    }
    for (name, bits, block) in [
        ("8 bits, one step a site", 8, usize::MAX),
        ("8 bits, one step per 32", 8, 32),
    ] {
        Parts::of(&adapter, &uniform(&adapter, bits, block)).print(name);
    }
    Parts::of(&adapter, &uniform(&adapter, 8, 9)).print("8 bits, one step per kernel");
    Parts::of(&adapter, &uniform(&adapter, 10, 16)).print("10 bits, one step per 16");
    Ok(())
}

fn sizes(adapter: &Adapter) -> Result<(), Box<dyn Error>> {
    println!("{:10}{:>10}{:>10}  sections (data bytes)", "encoding", "file", "header");
    for encoding in Encoding::ALL {
        let file = encode(adapter, encoding)?;
        let decoded = decode(&file)?;
        let describe = |s: &clr_adapters::SectionInfo| format!("{} {} {}", s.kind, s.encoding, s.bytes);
        let sections: Vec<_> = decoded.sections.iter().map(describe).collect();
        println!(
            "{:10}{:>10}{:>10}  {}",
            encoding.name(),
            file.len(),
            decoded.header_bytes,
            sections.join(", ")
        );
    }
    let (mut whole, mut shared, mut previous) = (0, 0, "");
    for site in &adapter.sites {
        let name = site.name.as_deref().unwrap_or_default();
        let common = name.bytes().zip(previous.bytes()).take_while(|(a, b)| a == b).count();
        whole += 1 + name.len();
        shared += 2 + name.len() - common;
        previous = name;
    }
    println!(
        "names of {} sites: {whole} bytes whole, {shared} sharing their beginnings",
        adapter.sites.len()
    );
    Ok(())
}

struct Parts {
    kernels: f64,
    scales: f64,
    biases: f64,
    head: f64,
}

impl Parts {
    fn of(original: &Adapter, back: &Adapter) -> Self {
        let (mut kernels, mut scales, mut biases, mut head) = (vec![], vec![], vec![], vec![]);
        for (own, other) in original.sites.iter().zip(&back.sites) {
            let size = if matches!(own.weights, SiteWeights::Kernel(_)) {
                9
            } else {
                1
            };
            let into = if size == 9 { &mut kernels } else { &mut scales };
            chunks(own.weights.values(), other.weights.values(), size, into);
            chunks(&own.bias, &other.bias, own.bias.len(), &mut biases);
        }
        chunks(
            &original.head.weight,
            &back.head.weight,
            original.head.features,
            &mut head,
        );
        Self {
            kernels: error(&kernels),
            scales: error(&scales),
            biases: error(&biases),
            head: error(&head),
        }
    }

    fn print(&self, name: &str) {
        let percent = |value: f64| format!("{:.3} %", 100.0 * value);
        let [kernels, scales, biases, head] = [self.kernels, self.scales, self.biases, self.head].map(percent);
        println!("{name:28}{kernels:>10}{scales:>10}{biases:>10}{head:>12}");
    }
}

fn chunks(own: &[f32], other: &[f32], size: usize, into: &mut Vec<Pair>) {
    into.extend(
        own.chunks(size)
            .zip(other.chunks(size))
            .map(|(a, b)| (a.to_vec(), b.to_vec())),
    );
}

/// Root mean square over the groups of `‖error‖ / ‖group‖`.
fn error(pairs: &[Pair]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let relative = pairs.iter().filter_map(|(own, other)| {
        let size = square(&mut own.iter().copied());
        (size > 0.0).then(|| square(&mut own.iter().zip(other).map(|(a, b)| a - b)) / size)
    });
    let errors: Vec<f64> = relative.collect();
    (errors.iter().sum::<f64>() / errors.len().max(1) as f64).sqrt()
}

/// Encodes with linear codes and an exact f32 step per block, as a baseline.
fn uniform(adapter: &Adapter, bits: u32, block: usize) -> Adapter {
    let largest = ((1 << (bits - 1)) - 1) as f32;
    let code = |values: &mut [f32]| {
        let size = block.min(values.len().max(1));
        for block in values.chunks_mut(size) {
            let step = block.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / largest;
            if step > 0.0 {
                for value in block {
                    *value = (*value / step).round() * step;
                }
            }
        }
    };
    let mut back = adapter.clone();
    for site in &mut back.sites {
        let (SiteWeights::Kernel(values) | SiteWeights::Scale(values)) = &mut site.weights;
        code(values);
        code(&mut site.bias);
    }
    back.head.weight.chunks_mut(adapter.head.features).for_each(code);
    back
}
