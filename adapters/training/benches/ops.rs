//! The training operators at ResNet-18's shapes, batch 16, and the depthwise ones beside candle's own.
//!
//! `cargo bench -p clr-training --bench ops`, with `RAYON_NUM_THREADS` for the number of threads. `tests/tools/torch_ops.py` times the same
//! work in PyTorch.

use candle_core::{CustomOp1, Device, Result, Tensor, Var};
use clr_onnx::{Activation, Conv, Padding};
use clr_training::ops;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use std::hint::black_box;
use std::time::Duration;

const BATCH: usize = 16;

fn random(shape: &[usize]) -> Result<Var> {
    Var::from_tensor(&Tensor::rand(-1f32, 1f32, shape, &Device::Cpu)?)
}

/// Forward, then backward from a gradient of ones.
fn both_ways(y: Result<Tensor>) {
    let gradients = y.and_then(|y| y.sum_all()).and_then(|loss| loss.backward());
    black_box(gradients.expect("gradients"));
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group
}

fn depthwise(criterion: &mut Criterion) -> Result<()> {
    for (channels, size) in [(64, 56), (256, 28)] {
        let mut group = group(
            criterion,
            &format!("depthwise 3x3 {channels}x{size}x{size} forward + backward"),
        );
        let x = random(&[BATCH, channels, size, size])?;
        let kernel = random(&[channels, 1, 3, 3])?;
        group.bench_function("ours", |bencher| {
            bencher.iter(|| both_ways(ops::clr_depthwise(&x, &kernel)))
        });
        if channels == 64 {
            group.bench_function("candle", |bencher| {
                bencher.iter(|| both_ways(x.conv2d(&kernel, 1, 1, 1, channels)))
            });
        }
        group.finish();
    }
    Ok(())
}

fn site(criterion: &mut Criterion) -> Result<()> {
    let act = Some(Activation::Relu);
    for (channels, size) in [(64, 112), (64, 56), (128, 28), (256, 14), (512, 7)] {
        let mut group = group(criterion, &format!("{channels}x{size}x{size} forward + backward"));
        let x = random(&[BATCH, channels, size, size])?;
        let (kernel, scale, bias) = (
            random(&[channels, 1, 3, 3])?,
            random(&[channels])?,
            random(&[channels])?,
        );
        group.bench_function("site", |bencher| {
            bencher.iter(|| both_ways(ops::clr_site(&x, &kernel, &bias, act)))
        });
        group.bench_function("scale-shift", |bencher| {
            bencher.iter(|| both_ways(ops::scale_shift(&x, &scale, &bias, act)));
        });
        group.bench_function("clr batch norm", |bencher| {
            bencher.iter(|| both_ways(ops::clr_batch_norm(&x, &kernel, &scale, &bias, 1e-5, act).map(|(y, _)| y)));
        });
        group.finish();
    }
    Ok(())
}

fn convolution(criterion: &mut Criterion) -> Result<()> {
    for (inputs, size, outputs, kernel, stride) in [
        (3, 224, 64, 7, 2),
        (64, 56, 64, 3, 1),
        (64, 56, 128, 3, 2),
        (64, 56, 128, 1, 2),
        (128, 28, 128, 3, 1),
        (256, 28, 256, 3, 1),
        (256, 14, 256, 3, 1),
        (512, 7, 512, 3, 1),
    ] {
        let name = format!("convolution {kernel}x{kernel} / {stride} {inputs}x{size}x{size} to {outputs}");
        let mut group = group(criterion, &name);
        let x = random(&[BATCH, inputs, size, size])?;
        let shape = [outputs, inputs, kernel, kernel];
        let values: Vec<f32> = random(&shape)?.flatten_all()?.to_vec1()?;
        let conv = Conv {
            weight: clr_onnx::Tensor::new(shape, values),
            bias: None,
            stride: [stride; 2],
            dilation: [1; 2],
            group: 1,
            padding: Padding::Explicit([kernel / 2; 4]),
        };
        let conv = ops::FrozenConv::new(&conv, &Device::Cpu)?;
        let plain = x.as_tensor().detach();
        let y = conv.forward(&plain)?;
        group.bench_function("forward", |bencher| {
            bencher.iter(|| black_box(conv.forward(&plain).expect("a result")));
        });
        if inputs > 3 {
            group.bench_function("backward", |bencher| {
                bencher.iter(|| black_box(conv.bwd(x.as_tensor(), &y, &y).expect("a gradient")));
            });
        }
        group.finish();
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    depthwise(criterion)
        .and_then(|()| site(criterion))
        .and_then(|()| convolution(criterion))
        .expect("the operators run");
}

criterion_group!(benches, all);
criterion_main!(benches);
