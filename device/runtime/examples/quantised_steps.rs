//! Compares every value that a quantised backbone computes on bytes with a reference, one step at a time: each step reads
//! the reference of the values before it.
//!
//!     cargo run --release -p clr-runtime --example quantised_steps -- MODEL.onnx FOLDER
//!
//! FOLDER has `image.f32`, the preprocessed image `[C, H, W]`; `names.txt`, the names of quantising nodes, one a line; and
//! for line `i` the file `i.u8`, the bytes `[C, H, W]`. Prints the logits of a complete pass, and for each value: name, number of bytes, how many differ by one
//! and by more, and the largest difference. `tests/tools/quantised_parity.py` makes such folders and summarises the result.

use std::{collections::HashMap, error::Error, fs, path::Path};

use clr_kernels::{Isa, LANES, dense};
use clr_onnx::{Backbone, Program, Shape};
use clr_runtime::{Executable, ExecutableOptions, Traced};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder] = &arguments[..] else {
        return Err("expected a model and a folder".into());
    };
    let folder = Path::new(folder);
    let backbone = Backbone::load(Path::new(model))?;
    let preprocessing = backbone.preprocessing();
    let size = [preprocessing.height, preprocessing.width].map(|side| side as usize);
    let program = Program::lower(&backbone, size)?;
    let executable = Executable::new(&program, &ExecutableOptions::new(&program).with_integer(true))?;
    let image = fs::read(folder.join("image.f32"))?;
    let image: Vec<f32> = image
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&value| f32::from_le_bytes(value))
        .collect();
    let names = fs::read_to_string(folder.join("names.txt"))?;
    let places: HashMap<&str, usize> = names.lines().enumerate().map(|(index, name)| (name, index)).collect();
    if let Some(head) = backbone.classifier() {
        let features = executable.features(&image, &executable.frozen_parameters());
        let mut logits = vec![0.0; head.classes()];
        dense(Isa::exact(), &head.weight, &head.bias, &features, &mut logits);
        let logits: Vec<String> = logits.iter().map(ToString::to_string).collect();
        println!("logits\t{}", logits.join("\t"));
    }
    executable.trace(&image, &executable.frozen_parameters(), |value, traced| {
        let name = backbone.node(value).map_or("", |node| node.name.as_str());
        // Operators on integers are read as several nodes, of which the last one quantises.
        let plain = name.split(".QuantizeLinear").next().unwrap_or(name);
        let Some(index) = places.get(name).or_else(|| places.get(plain)) else {
            if !matches!(traced, Traced::Real(_)) {
                eprintln!("no reference of `{name}`");
            }
            return;
        };
        let Ok(reference) = fs::read(folder.join(format!("{index}.u8"))) else {
            return;
        };
        let shape = program.shapes[value.0];
        let (lanes, bytes) = match traced {
            Traced::Real(_) => {
                println!("{name}\t0\t0\t0\t0");
                return;
            }
            Traced::Bytes(_, bytes) => (LANES, bytes),
            Traced::PixelBytes(_, bytes) => (4, bytes),
        };
        compare(name, shape, lanes, &reference, bytes);
    });
    Ok(())
}

/// Compares bytes in blocks of `lanes` channels with planes, and replaces them.
fn compare(name: &str, shape: Shape, lanes: usize, reference: &[u8], bytes: &mut [u8]) {
    let channels = shape.channels();
    let pixels = reference.len() / channels;
    let (mut one, mut more, mut largest) = (0, 0, 0);
    for (channel, plane) in reference.chunks_exact(pixels).enumerate() {
        for (pixel, &expected) in plane.iter().enumerate() {
            let got = &mut bytes[(channel / lanes * pixels + pixel) * lanes + channel % lanes];
            let difference = expected.abs_diff(*got);
            one += usize::from(difference == 1);
            more += usize::from(difference > 1);
            largest = largest.max(difference);
            *got = expected;
        }
    }
    println!("{name}\t{}\t{one}\t{more}\t{largest}", reference.len());
}
