//! Writes the engine's inputs and logits, to compare them with another engine.
//!
//! `logits BACKBONE.onnx ADAPTER.clr OUT FOLDER...` writes `OUT/inputs.f32`, `[N, 3, H, W]`, and `OUT/logits.f32`, `[N,
//! K]`, little-endian, in the order of the sorted image paths. `tests/tools/engine_against_onnxruntime.py` reads both
//! files.

use std::{error::Error, fs, io::Write as _, path::Path};

use clr_engine::Engine;
use clr_onnx::{Preprocess as _, decode_image_for};
use walkdir::WalkDir;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, adapter, out, folders @ ..] = arguments.as_slice() else {
        return Err("usage: logits BACKBONE.onnx ADAPTER.clr OUT FOLDER...".into());
    };
    let engine = Engine::load(backbone)?;
    let adapter = clr_adapters::decode(&fs::read(adapter)?)?.adapter;
    let resident = engine.prepare(&adapter)?;
    let mut paths = Vec::new();
    for entry in folders.iter().flat_map(WalkDir::new) {
        let entry = entry?;
        if entry.file_type().is_file() {
            paths.push(entry.into_path());
        }
    }
    paths.sort();
    fs::create_dir_all(out)?;
    let create = |name: &str| fs::File::create(Path::new(out).join(name)).map(std::io::BufWriter::new);
    let (mut inputs, mut logits) = (create("inputs.f32")?, create("logits.f32")?);
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut count = 0;
    for path in &paths {
        let image = match decode_image_for(path, &[&adapter.header.preprocessing]) {
            Ok(image) => image,
            Err(error) => {
                eprintln!("skipped: {error}");
                continue;
            }
        };
        inputs.write_all(&bytes(&adapter.header.preprocessing.preprocess(&image)))?;
        logits.write_all(&bytes(engine.classify(&resident, &image)?.logits()))?;
        count += 1;
    }
    inputs.flush()?;
    logits.flush()?;
    println!("{count} images");
    Ok(())
}
