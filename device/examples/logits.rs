//! Writes what the engine reads and answers, for a comparison with another engine: `logits BACKBONE.onnx ADAPTER.clr OUT FOLDER...`
//! writes `OUT/inputs.f32`, `[N, 3, H, W]`, and `OUT/logits.f32`, `[N, K]`, little-endian, in the order of the sorted paths.
//!
//! `tests/tools/engine_against_onnxruntime.py` reads them.

use std::{error::Error, fs, io::Write as _, path::Path};

use clr_device::Engine;
use clr_onnx::{Preprocess as _, decode_image};

fn pictures(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            pictures(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, adapter, out, folders @ ..] = arguments.as_slice() else {
        return Err("usage: logits BACKBONE.onnx ADAPTER.clr OUT FOLDER...".into());
    };
    let engine = Engine::load(backbone)?;
    let adapter = clr_adapters::decode(&fs::read(adapter)?)?.adapter;
    let resident = engine.prepare(&adapter)?;
    let mut paths = Vec::new();
    for folder in folders {
        pictures(Path::new(folder), &mut paths)?;
    }
    paths.sort();
    fs::create_dir_all(out)?;
    let create = |name: &str| fs::File::create(Path::new(out).join(name)).map(std::io::BufWriter::new);
    let (mut inputs, mut logits) = (create("inputs.f32")?, create("logits.f32")?);
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut count = 0;
    for path in &paths {
        let Ok(image) = decode_image(path) else { continue };
        inputs.write_all(&bytes(&adapter.header.preprocessing.preprocess(&image)))?;
        logits.write_all(&bytes(engine.classify(&resident, &image)?.logits()))?;
        count += 1;
    }
    inputs.flush()?;
    logits.flush()?;
    println!("{count} pictures");
    Ok(())
}
