//! Classifies one image with several tasks on one backbone.
//!
//! ```text
//! cargo run --release -p clr-vision --example classify -- lite0.onnx photo.jpg birds.clr flowers.clr
//! ```

use std::{error::Error, fs, path::Path};

use clr_vision::{Engine, TaskSet, adapters, backbones};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, image, files @ ..] = arguments.as_slice() else {
        return Err("usage: classify BACKBONE.onnx IMAGE ADAPTER.clr…".into());
    };
    let engine = Engine::load(backbone)?;
    let tasks = TaskSet::new();
    for file in files {
        let adapter = adapters::decode(&fs::read(file)?)?.adapter;
        tasks.insert(engine.prepare(&adapter)?);
    }
    let image = backbones::decode_image(Path::new(image))?;
    for task in tasks.all() {
        for class in engine.classify(&task, &image)?.top(3) {
            println!("{}: {} {:.1} %", task.task(), class.label, 100.0 * class.probability);
        }
    }
    Ok(())
}
