//! Times the gradient of a convolution's weight, for `tests/tools/bench_weight_gradient.py`.
//!
//! Each line of standard input has nine numbers: threads, repetitions, images, input channels, output channels, groups,
//! kernel, stride and size of the input. The answer is the fastest repetition in milliseconds.

use std::{
    error::Error,
    io::{BufRead, Write},
    time::Instant,
};

use candle_core::{Device, Tensor};
use clr_continual::ops::{conv, conv_weight_gradient};
use clr_onnx::Padding;
use clr_training::ops::ConvOptions;

fn main() -> Result<(), Box<dyn Error>> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let numbers = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<usize>, _>>()?;
        let [
            threads,
            repetitions,
            images,
            inputs,
            outputs,
            groups,
            kernel,
            stride,
            size,
        ] = *numbers
        else {
            return Err(format!("expected nine numbers, got {line:?}").into());
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let fastest = pool.install(|| -> candle_core::Result<f64> {
            let x = Tensor::randn(0.0_f32, 1.0, (images, inputs, size, size), &Device::Cpu)?;
            let w = Tensor::randn(0.0_f32, 1.0, (outputs, inputs / groups, kernel, kernel), &Device::Cpu)?;
            let options = ConvOptions {
                stride: [stride; 2],
                dilation: [1; 2],
                groups,
                padding: Padding::Explicit([kernel / 2; 4]),
            };
            let dy = conv(&x, &w, options)?.ones_like()?;
            let mut fastest = f64::INFINITY;
            for _ in 0..repetitions {
                let start = Instant::now();
                conv_weight_gradient(&x, &dy, w.shape(), options)?;
                fastest = fastest.min(start.elapsed().as_secs_f64());
            }
            Ok(fastest)
        })?;
        println!("{:.4}", 1e3 * fastest);
        std::io::stdout().flush()?;
    }
    Ok(())
}
