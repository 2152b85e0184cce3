//! Best time of every step of a backbone, on one thread, in microseconds.
//!
//!     cargo run --release -p clr-runtime --example step_times -- MODEL.onnx [ROUNDS [clr]]
//!
//! The times of a traced pass come first, then that of complete passes, and a checksum of the features. A conversion between
//! bytes and real values counts towards the step that follows it. With `clr`, the stem and every depthwise convolution have
//! a CLR layer that changes nothing.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use clr_onnx::{Backbone, Program, StepOp};
use clr_runtime::{Executable, ExecutableOptions, RuntimeError, SiteParameters};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let model = arguments.first().ok_or("expected a model")?;
    let rounds: u32 = arguments.get(1).map_or(Ok(50), |rounds| rounds.parse())?;
    let kernels = arguments.get(2).is_some_and(|recipe| recipe == "clr");
    let backbone = Backbone::load(Path::new(model))?;
    let preprocessing = backbone.preprocessing();
    let size = [preprocessing.height, preprocessing.width].map(|side| side as usize);
    let program = Program::lower(&backbone, size)?;
    let executable = Executable::new(&program, &ExecutableOptions::new(&program).with_integer(true))?;
    let mut state = 1_u32;
    let image: Vec<f32> = (0..executable.image().iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let mut parameters = executable.frozen_parameters();
    if kernels {
        add_kernels(&program, &executable, &mut parameters)?;
    }

    let mut times: Vec<(String, Duration)> = Vec::new();
    for _ in 0..rounds {
        let (mut index, mut last) = (0, Instant::now());
        executable.trace(&image, &parameters, |value, _| {
            let took = last.elapsed();
            if let Some((_, best)) = times.get_mut(index) {
                *best = took.min(*best);
            } else {
                let name = backbone.node(value).map_or("", |node| node.name.as_str());
                times.push((format!("{name} {:?}", program.shapes[value.0]), took));
            }
            index += 1;
            last = Instant::now();
        });
    }
    for (name, time) in &times {
        println!("{:9.1} {name}", time.as_secs_f64() * 1e6);
    }
    let sum: Duration = times.iter().map(|(_, time)| *time).sum();
    let mut passes = Vec::new();
    let mut features = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        features = executable.features(&image, &parameters);
        passes.push(start.elapsed());
    }
    passes.sort_unstable();
    let checksum = features
        .iter()
        .fold(0_u32, |sum, value| sum.rotate_left(5) ^ value.to_bits());
    println!("{:9.1} sum of steps", sum.as_secs_f64() * 1e6);
    println!(
        "{:9.1} best pass, median {:.1}",
        passes[0].as_secs_f64() * 1e6,
        passes[passes.len() / 2].as_secs_f64() * 1e6
    );
    println!("{checksum:08x} features");
    Ok(())
}

/// Replaces the parameters of the stem and of depthwise convolutions by CLR layers of the same function.
fn add_kernels(
    program: &Program,
    executable: &Executable,
    parameters: &mut [SiteParameters],
) -> Result<(), RuntimeError> {
    for (index, step) in program.steps.iter().enumerate() {
        let StepOp::Conv(conv) = &step.op else { continue };
        let stem = conv.conv.weight.shape()[1] == 3;
        if index > 1 && !stem && conv.conv.group == 1 {
            continue;
        }
        let kernels: Vec<f32> = conv
            .scale
            .iter()
            .flat_map(|&scale| (0..9).map(move |tap| if tap == 4 { scale } else { 0.0 }))
            .collect();
        parameters[conv.site] = executable.scaled(conv.site, &SiteParameters::kernel(&kernels, &conv.bias))?;
    }
    Ok(())
}
