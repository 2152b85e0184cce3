//! Selects one of several tasks for each image, and classifies the image with it.
//!
//! ```text
//! cargo run --release -p clr-vision --example choose_task -- lite0.onnx birds.clr flowers.clr -- photos/*.jpg
//! ```

use std::{error::Error, fs, path::Path};

use clr_vision::{ChooserOptions, Engine, TaskChooser, TaskSet, adapters, backbones};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut groups = arguments.split(|argument| argument == "--");
    let (Some([backbone, files @ ..]), Some(images)) = (groups.next(), groups.next()) else {
        return Err("usage: choose_task BACKBONE.onnx ADAPTER.clr… -- IMAGE…".into());
    };
    let engine = Engine::load(backbone)?;
    let tasks = TaskSet::new();
    for file in files {
        let adapter = adapters::decode(&fs::read(file)?)?.adapter;
        tasks.insert(engine.prepare(&adapter)?);
    }
    // These images are unrelated. For a stream of frames, `ChooserOptions::default()` is suitable, which waits before
    // it switches.
    let mut chooser = TaskChooser::new(ChooserOptions::independent_images());
    for path in images {
        let image = backbones::decode_image(Path::new(path))?;
        let mut pass = engine.pass(&image);
        match chooser.observe(&mut pass, &tasks)?.task {
            Some(task) => {
                let classification = pass.classify(&task)?;
                let label = classification.best().map_or("", |best| best.label);
                println!("{path}: {}, {label}", task.task());
            }
            None => println!("{path}: none of the tasks"),
        }
    }
    Ok(())
}
