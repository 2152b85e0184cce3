//! Runs a backbone on the same image some times, on one thread, so that a profiler or an emulator can measure an image.
//!
//!     cargo run --release -p clr-runtime --example repeat -- MODEL.onnx TIMES
//!
//! A quantised backbone runs on bytes. Prints the sum of the features. `tests/tools/arm_estimate.py` uses it.

use std::{error::Error, path::Path};

use clr_onnx::{Backbone, Program};
use clr_runtime::{Executable, ExecutableOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, times] = &arguments[..] else {
        return Err("expected a model and a number".into());
    };
    let backbone = Backbone::load(Path::new(model))?;
    let preprocessing = backbone.preprocessing();
    let size = [preprocessing.height, preprocessing.width].map(|side| side as usize);
    let program = Program::lower(&backbone, size)?;
    let options = ExecutableOptions::new(&program)
        .with_integer(backbone.is_quantised())
        .with_threads(1);
    let executable = Executable::new(&program, &options)?;
    let parameters = executable.frozen_parameters();
    let image: Vec<f32> = (0..executable.image().iter().product())
        .map(|index| (index % 256) as f32 / 64.0 - 2.0)
        .collect();
    let mut sum = 0.0;
    for _ in 0..times.parse()? {
        sum += executable.features(&image, &parameters).iter().sum::<f32>();
    }
    println!("{sum}");
    Ok(())
}
