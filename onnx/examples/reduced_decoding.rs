//! Measures the effect of reducing an image during decoding: time, announced memory, and differences of the input
//! values (0 to 255).
//!
//! ```sh
//! cargo run --release -p clr-onnx --example reduced_decoding -- 224 photo.jpg …
//! ```

use std::{cell::Cell, error::Error, path::Path, time::Instant};

use clr_adapters::Preprocessing;
use clr_onnx::{DecodeLimits, ImageDecoder, Preprocess as _, ReducedImage, imagenet_preprocessing};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let side: u32 = arguments.next().ok_or("expected the input's side and files")?.parse()?;
    let input = Preprocessing {
        height: side,
        width: side,
        ..imagenet_preprocessing()
    };
    let decoder = ImageDecoder::new(DecodeLimits::HOST);
    println!(
        "file, pixels, ms and MB at full size, pixels, ms and MB reduced, mean, mean absolute and largest difference"
    );
    for file in arguments {
        let bytes = decoder.read_file(Path::new(&file))?;
        let decode = |inputs: &[&Preprocessing]| -> Result<(ReducedImage, f64, u64), Box<dyn Error>> {
            let most = Cell::new(0);
            let before = |needed: u64| most.set(most.get().max(needed));
            let mut times = Vec::new();
            let mut image = ReducedImage::default();
            for _ in 0..3 {
                let start = Instant::now();
                image = decoder.decode_observed(&bytes, &file, inputs, &before)?.into();
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            Ok((image, times[1], most.get() >> 20))
        };
        let (full, full_ms, full_mb) = decode(&[])?;
        let (reduced, reduced_ms, reduced_mb) = decode(&[&input])?;
        let (expected, got) = (input.fit(&full), input.fit(&reduced));
        let differences: Vec<f64> = expected
            .as_raw()
            .iter()
            .zip(got.as_raw())
            .map(|(expected, got)| f64::from(*got) - f64::from(*expected))
            .collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / differences.len() as f64;
        println!(
            "{file}, {:?}, {full_ms:.1}, {full_mb}, {:?}, {reduced_ms:.1}, {reduced_mb}, {:.3}, {:.3}, {}",
            full.pixels().dimensions(),
            reduced.pixels().dimensions(),
            mean(&mut differences.iter().copied()),
            mean(&mut differences.iter().map(|value| value.abs())),
            differences.iter().fold(0.0_f64, |most, value| most.max(value.abs()))
        );
    }
    Ok(())
}
