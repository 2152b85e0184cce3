//! The training operators at ResNet-18's shapes, batch 16, and the depthwise ones beside candle's own.
//!
//! `cargo bench -p clr-training --bench ops`, with `RAYON_NUM_THREADS` for the number of threads. `tests/tools/torch_ops.py` times the same
//! work in PyTorch.

use candle_core::{CustomOp1, DType, Device, Result, Tensor, Var};
use clr_kernels::{Arena, Bounds, LANES, Level, Post, clr_forward, clr_gradient};
use clr_onnx::{Activation, Conv, Padding, Pool};
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
    let gradients = y.and_then(|y| y.backward());
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
            bencher.iter(|| both_ways(ops::clr_depthwise(&x, &kernel)));
        });
        // What training on a processor runs: picture by picture, in blocks of sixteen channels.
        let (level, arena, blocks) = (Level::detect(), Arena::default(), channels / LANES);
        let length = blocks * size * size * LANES;
        let (x_blocks, parameters) = (vec![0.5f32; length], vec![0.1f32; blocks * Post::Kernel.parameters()]);
        let (mut y, mut sums) = (vec![0f32; length], vec![0f32; parameters.len()]);
        group.bench_function("ours, as training runs it", |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    let (size, bounds) = ([size; 2], Bounds::NONE);
                    clr_forward(level, &arena, &x_blocks, &parameters, size, &mut y, bounds);
                    y.fill(1.0);
                    clr_gradient(
                        level,
                        &arena,
                        &x_blocks,
                        &parameters,
                        size,
                        &mut y,
                        Some(&mut sums),
                        bounds,
                        true,
                    );
                }
                black_box(&sums);
            });
        });
        if channels == 64 {
            group.bench_function("candle", |bencher| {
                bencher.iter(|| both_ways(x.conv2d(&kernel, 1, 1, 1, channels)));
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
            bencher.iter(|| both_ways(ops::clr_site(&x, &kernel, &bias, act)));
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

/// A frozen convolution with what the `clr` recipe trains behind it.
struct Site {
    conv: ops::FrozenConv,
    kernel: Option<Var>,
    gamma: Var,
    beta: Var,
}

impl Site {
    fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Result<Self> {
        let shape = [outputs, inputs, kernel, kernel];
        let deviation = (6.0 / (inputs * kernel * kernel) as f64).sqrt();
        let values: Vec<f32> = (random(&shape)?.as_tensor() * deviation)?.flatten_all()?.to_vec1()?;
        let conv = Conv {
            weight: clr_onnx::Tensor::new(shape, values),
            bias: None,
            stride: [stride; 2],
            dilation: [1; 2],
            group: 1,
            padding: Padding::Explicit([kernel / 2; 4]),
        };
        Ok(Self {
            conv: ops::FrozenConv::new(&conv, &Device::Cpu)?,
            kernel: if kernel > 1 {
                Some(random(&[outputs, 1, 3, 3])?)
            } else {
                None
            },
            gamma: Var::ones(outputs, DType::F32, &Device::Cpu)?,
            beta: Var::zeros(outputs, DType::F32, &Device::Cpu)?,
        })
    }

    fn forward(&self, x: &Tensor, act: Option<Activation>, batch: bool) -> Result<Tensor> {
        let y = self.conv.forward(x)?;
        match (&self.kernel, batch) {
            (Some(kernel), true) => Ok(ops::clr_batch_norm(&y, kernel, &self.gamma, &self.beta, 1e-5, act)?.0),
            (None, true) => Ok(ops::batch_norm(&y, &self.gamma, &self.beta, 1e-5, act)?.0),
            (Some(kernel), false) => {
                let gamma = self.gamma.reshape((self.gamma.elem_count(), 1, 1, 1))?;
                ops::clr_site(&y, &kernel.broadcast_mul(&gamma)?, &self.beta, act)
            }
            (None, false) => ops::scale_shift(&y, &self.gamma, &self.beta, act),
        }
    }
}

/// ResNet-18 with the sites of the `clr` recipe.
struct Net {
    stem: Site,
    blocks: Vec<(Site, Site, Option<Site>)>,
    head: Var,
}

impl Net {
    fn new() -> Result<Self> {
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (outputs, stride) in [
            (64, 1),
            (64, 1),
            (128, 2),
            (128, 1),
            (256, 2),
            (256, 1),
            (512, 2),
            (512, 1),
        ] {
            let down = if stride > 1 {
                Some(Site::new(inputs, outputs, 1, stride)?)
            } else {
                None
            };
            blocks.push((
                Site::new(inputs, outputs, 3, stride)?,
                Site::new(outputs, outputs, 3, 1)?,
                down,
            ));
            inputs = outputs;
        }
        Ok(Self {
            stem: Site::new(3, 64, 7, 2)?,
            blocks,
            head: random(&[512, 10])?,
        })
    }

    /// The mean of the logits: the step's cost does not depend on the loss.
    fn loss(&self, image: &Tensor, batch: bool) -> Result<Tensor> {
        let relu = Some(Activation::Relu);
        let pool = Pool {
            kernel: [3; 2],
            stride: [2; 2],
            padding: Padding::Explicit([1; 4]),
            ceil: false,
            count_include_pad: false,
        };
        let mut x = ops::max_pool(&self.stem.forward(image, relu, batch)?, &pool)?;
        for (first, second, down) in &self.blocks {
            let rest = down
                .as_ref()
                .map_or_else(|| Ok(x.clone()), |down| down.forward(&x, None, batch))?;
            let y = second.forward(&first.forward(&x, relu, batch)?, None, batch)?;
            x = ops::add_activation(&y, &rest, relu)?;
        }
        ops::global_average_pool(&x)?
            .flatten_from(1)?
            .matmul(&self.head)?
            .mean_all()
    }
}

fn step(criterion: &mut Criterion) -> Result<()> {
    let net = Net::new()?;
    for size in [96, 224] {
        let mut group = group(criterion, &format!("ResNet-18 step {size} px"));
        let image = random(&[BATCH, 3, size, size])?.as_tensor().detach();
        for (name, batch) in [("batch norm", true), ("fixed statistics", false)] {
            let run = || net.loss(&image, batch).and_then(|loss| loss.backward());
            group.bench_function(name, |bencher| bencher.iter(|| black_box(run().expect("gradients"))));
        }
        group.finish();
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    depthwise(criterion)
        .and_then(|()| site(criterion))
        .and_then(|()| convolution(criterion))
        .and_then(|()| step(criterion))
        .expect("the operators run");
}

criterion_group!(benches, all);
criterion_main!(benches);
