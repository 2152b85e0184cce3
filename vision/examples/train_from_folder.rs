//! Trains an adapter on a folder with one folder of images per class.
//!
//! ```text
//! cargo run --release -p clr-vision --features training --example train_from_folder -- lite0.onnx birds/ birds.clr
//! ```
//!
//! A fourth argument is the number of epochs (default: 12).

use std::{error::Error, fs, path::Path};

use clr_vision::{
    backbones::Backbone,
    training::{Dataset, Observer, Record, SplitOptions, TrainOptions, train},
};

/// Prints a line per epoch.
struct Epochs;

impl Observer for Epochs {
    fn record(&mut self, record: &Record) {
        println!(
            "{} epoch {}: validation accuracy {:.1} %",
            record.recipe,
            record.epoch,
            100.0 * record.validation_accuracy
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, folder, output, epochs @ ..] = arguments.as_slice() else {
        return Err("usage: train_from_folder BACKBONE.onnx FOLDER OUTPUT.clr [EPOCHS]".into());
    };
    let backbone = Backbone::load(Path::new(backbone))?;
    let dataset = Dataset::open(Path::new(folder), &SplitOptions::default())?;
    let mut options = TrainOptions::default();
    if let Some(epochs) = epochs.first() {
        options.schedule.epochs = epochs.parse()?;
    }
    let trained = train(&backbone, &dataset, &options, &mut Epochs)?;
    fs::write(output, &trained.bytes)?;
    println!(
        "{output}: {}, {} bytes, validation accuracy {:.1} %",
        trained.adapter.header.recipe,
        trained.bytes.len(),
        100.0 * trained.quantised_validation.accuracy
    );
    Ok(())
}
