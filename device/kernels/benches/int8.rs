//! Benchmark of the int8 convolutions and the f32 ones of the same shapes, on one thread: `cargo bench -p clr-kernels
//! --bench int8`.

use std::{hint::black_box, sync::Arc, time::Duration};

use clr_kernels::{
    Arena, Bounds, Epilogue, Form, FusedConv, Int8Conv, Int8Form, Int8Output, Int8Shape, Int8Sum, Int8Weights, Isa,
    PackedConv, Rounding,
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

fn bytes(count: usize) -> Vec<u8> {
    values(count)
        .into_iter()
        .map(|value| (value * 128.0 + 128.0) as u8)
        .collect()
}

/// Returns the part of a buffer that starts at a cache line.
fn aligned(buffer: &mut [u8]) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(64).min(64);
    let length = buffer.len() - 64;
    &mut buffer[start..start + length]
}

/// Convolutions `[out, in, kernel, stride, groups]` on maps with this side.
const CONVOLUTIONS: [(&str, [usize; 5], usize); 11] = [
    ("image 3x3 3 to 32 at 224, stride 2", [32, 3, 3, 2, 1], 224),
    ("1x1 16 to 96 at 112", [96, 16, 1, 1, 1], 112),
    ("1x1 144 to 24 at 56", [24, 144, 1, 1, 1], 56),
    ("1x1 80 to 480 at 14", [480, 80, 1, 1, 1], 14),
    ("1x1 480 to 112 at 14", [112, 480, 1, 1, 1], 14),
    ("1x1 320 to 1280 at 7", [1280, 320, 1, 1, 1], 7),
    ("3x3 64 at 56", [64, 64, 3, 1, 1], 56),
    ("3x3 256 at 14", [256, 256, 3, 1, 1], 14),
    ("depthwise 3x3 144 at 56", [144, 144, 3, 1, 144], 56),
    ("depthwise 3x3 480 at 14", [480, 480, 3, 1, 480], 14),
    ("depthwise 5x5 240 at 28", [240, 240, 5, 1, 240], 28),
];

fn int8(c: &mut Criterion) {
    let arena = Arc::new(Arena::default());
    let mut group = c.benchmark_group("int8");
    for (name, [out, input, kernel, stride, groups], side) in CONVOLUTIONS {
        let shape = Int8Shape {
            out_channels: out,
            in_channels: input,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            group: groups,
        };
        let image = input == 3;
        let form = if image { Int8Form::Image } else { Int8Form::Blocks };
        let weights = bytes(out * input / groups * kernel * kernel);
        let weights: Vec<_> = weights.into_iter().map(|byte| (byte as i8).max(-127)).collect();
        let weights = Arc::new(Int8Weights::new(shape, &weights, form));
        let output = [(side - 1) / stride + 1; 2];
        for (kind, epilogue, with_shortcut) in [
            ("", Epilogue::Affine, false),
            (", CLR layer", Epilogue::Kernel, false),
            (", shortcut", Epilogue::Affine, true),
        ] {
            let conv = Int8Conv {
                weights: Arc::clone(&weights),
                input: [side; 2],
                output,
                pads: [kernel / 2; 4],
                epilogue,
                isa: Isa::detect(),
                threads: 1,
                arena: Arc::clone(&arena),
            };
            let x = bytes(conv.input_len());
            let shortcut = bytes(conv.output_len());
            let sum = Int8Sum {
                zero_point: 128,
                scale: 0.5,
                inner: None,
            };
            let parameters: Vec<_> = values(conv.weights.out_blocks() * epilogue.parameters())
                .into_iter()
                .map(|value| value * 1e-3)
                .collect();
            let mut out = vec![0; conv.output_len() + 64];
            let out = aligned(&mut out);
            group.bench_function(format!("{name}{kind}"), |b| {
                b.iter(|| {
                    let output = Int8Output::Bytes {
                        out: &mut *out,
                        rounding: Rounding::new(128),
                        shortcut: with_shortcut.then_some((&shortcut[..], sum)),
                    };
                    conv.run(black_box(&x), 127, &parameters, output);
                });
            });
        }
        let conv = Conv {
            weight: Tensor::new(
                [out, input / groups, kernel, kernel],
                values(out * input / groups * kernel * kernel),
            )
            .into(),
            bias: None,
            stride: [stride; 2],
            dilation: [1; 2],
            group: groups,
            padding: Padding::Explicit([kernel / 2; 4]),
        };
        let fused = FusedConv {
            conv: Arc::new(PackedConv::new(&conv, Form::choose(&conv, image, output))),
            input: [side; 2],
            output,
            pads: [kernel / 2; 4],
            epilogue: Epilogue::Affine,
            bounds: Bounds { low: 0.0, high: 6.0 },
            smooth: None,
            isa: Isa::detect(),
            threads: 1,
            arena: Arc::clone(&arena),
        };
        let x = values(fused.input_len());
        let parameters = values(fused.conv.out_blocks() * Epilogue::Affine.parameters());
        let mut out = vec![0.0; fused.output_len()];
        group.bench_function(format!("{name}, f32"), |b| {
            b.iter(|| fused.run(black_box(&x), &parameters, None, &mut out));
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
}

criterion_group! { name = benches; config = quick(); targets = int8 }
criterion_main!(benches);
