//! Benchmark of the kernels that dominate the time of inference and training, on one thread: `cargo bench -p
//! clr-kernels`.

use std::{hint::black_box, sync::Arc, time::Duration};

use clr_kernels::{
    AFFINE_PARAMETERS, Arena, Bounds, ConvGradient, Epilogue, Form, FusedConv, Isa, LANES, LayerNorm, PackedConv,
    Smooth, activate, clr_gradient, layer_norm,
};
use clr_onnx::{Conv, Padding, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};

/// Reproducible values in −1…1.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / ((1_u64 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn conv([out, input, kernel, stride, group]: [usize; 5]) -> Conv {
    let shape = [out, input / group, kernel, kernel];
    Conv {
        weight: Tensor::new(shape, values(shape.iter().product())).into(),
        bias: None,
        stride: [stride; 2],
        dilation: [1; 2],
        group,
        padding: Padding::Explicit([kernel / 2; 4]),
    }
}

/// Convolutions `[out, in, kernel, stride, groups]` on maps with this side, each with scale, bias and clamp.
const CONVOLUTIONS: [(&str, [usize; 5], usize); 15] = [
    ("pointwise 96 to 24 at 56", [24, 96, 1, 1, 1], 56),
    ("pointwise 320 to 1280 at 7", [1280, 320, 1, 1, 1], 7),
    ("pointwise 192 to 1152 at 7", [1152, 192, 1, 1, 1], 7),
    ("3x3 64 at 56", [64, 64, 3, 1, 1], 56),
    ("3x3 256 at 56", [256, 256, 3, 1, 1], 56),
    ("3x3 512 at 28", [512, 512, 3, 1, 1], 28),
    ("3x3 256 at 14", [256, 256, 3, 1, 1], 14),
    ("3x3 512 at 7", [512, 512, 3, 1, 1], 7),
    ("depthwise 3x3 96 at 112, stride 2", [96, 96, 3, 2, 96], 112),
    ("depthwise 5x5 240 at 28", [240, 240, 5, 1, 240], 28),
    ("depthwise 3x3 480 at 14", [480, 480, 3, 1, 480], 14),
    ("depthwise 7x7 96 at 56", [96, 96, 7, 1, 96], 56),
    ("3x3 128 in groups of 4 at 56", [128, 128, 3, 1, 32], 56),
    ("3x3 128 in groups of 8 at 28", [128, 128, 3, 1, 16], 28),
    ("3x3 120 in groups of 24 at 28", [120, 120, 3, 1, 5], 28),
];

fn convolutions(c: &mut Criterion) {
    let arena = Arc::new(Arena::default());
    for (name, shape, side) in CONVOLUTIONS {
        let conv = conv(shape);
        let output = [(side - 1) / shape[3] + 1; 2];
        let fused = FusedConv {
            conv: Arc::new(PackedConv::new(&conv, Form::choose(&conv, false, output))),
            input: [side; 2],
            output,
            pads: [shape[2] / 2; 4],
            epilogue: Epilogue::Affine,
            bounds: Bounds { low: 0.0, high: 6.0 },
            smooth: None,
            isa: Isa::detect(),
            threads: 1,
            arena: Arc::clone(&arena),
        };
        let x = values(fused.input_len());
        let parameters = values(shape[0].div_ceil(LANES) * AFFINE_PARAMETERS);
        let mut out = vec![0.0; fused.output_len()];
        c.bench_function(name, |b| {
            b.iter(|| fused.run(black_box(&x), &parameters, None, &mut out));
        });
    }
}

fn norms(c: &mut Criterion) {
    let x = values(96 * 56 * 56);
    let (scale, bias) = (values(96), values(96));
    let norm = LayerNorm {
        channels: 96,
        scale: &scale,
        bias: &bias,
        epsilon: 1e-6,
    };
    let mut y = x.clone();
    c.bench_function("layer norm of 96 at 56", |b| {
        b.iter(|| layer_norm(Isa::detect(), &norm, black_box(&x), &mut y));
    });
}

fn activations(c: &mut Criterion) {
    for (name, smooth) in [
        ("SiLU of 16384", Smooth::Silu),
        ("HardSwish of 16384", Smooth::HardSwish),
    ] {
        let x = values(16 << 10);
        let mut y = x.clone();
        c.bench_function(name, |b| {
            b.iter(|| {
                y.copy_from_slice(&x);
                activate(Isa::detect(), black_box(&mut y), smooth);
            });
        });
    }
}

fn gradients(c: &mut Criterion) {
    let arena = Arc::new(Arena::default());
    let (size, blocks) = ([28; 2], 4);
    let x = values(size[0] * size[1] * blocks * LANES);
    let parameters = values(blocks * 10 * LANES);
    let (mut dy, mut sums) = (x.clone(), vec![0.0; parameters.len()]);
    let bounds = Bounds { low: 0.0, high: 6.0 };
    c.bench_function("gradient of the CLR layer, 64 at 28", |b| {
        b.iter(|| {
            dy.copy_from_slice(&x);
            let sums = Some(&mut sums[..]);
            clr_gradient(
                Isa::detect(),
                &arena,
                black_box(&x),
                &parameters,
                size,
                &mut dy,
                sums,
                bounds,
                true,
            );
        });
    });
    let conv = conv([96, 96, 3, 2, 96]);
    let gradient = ConvGradient::new(&conv, [56; 2], [28; 2], [1; 4], Isa::detect(), &arena);
    let (dy, mut dx) = (values(28 * 28 * 96), vec![0.0; gradient.input_len()]);
    c.bench_function("gradient of a depthwise 3x3, 96 at 56, stride 2", |b| {
        b.iter(|| gradient.run(black_box(&dy), &mut dx));
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
}

criterion_group! { name = benches; config = quick(); targets = convolutions, norms, activations, gradients }
criterion_main!(benches);
