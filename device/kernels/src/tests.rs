//! Every kernel against the definition in plain loops and double precision, at every instruction set of this machine.

use std::sync::Arc;

use clr_onnx::{Conv, Padding, Tensor};

use super::*;

/// Reproducible values in −1…1.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / ((1u64 << 23) as f32) - 1.0
    }

    pub(crate) fn vector(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next()).collect()
    }
}

/// A feature map as `[C, H, W]`.
#[derive(Clone)]
pub(crate) struct Map {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<f32>,
}

impl Map {
    pub(crate) fn random(shape: [usize; 3], random: &mut Random) -> Self {
        Self {
            shape,
            data: random.vector(shape.iter().product()),
        }
    }

    pub(crate) fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let [_, height, width] = self.shape;
        if y < 0 || x < 0 || y >= height as isize || x >= width as isize {
            return 0.0;
        }
        f64::from(self.data[(c * height + y as usize) * width + x as usize])
    }

    pub(crate) fn blocks(&self) -> Vec<f32> {
        let [channels, height, width] = self.shape;
        let mut pixels = vec![0.0; self.data.len()];
        interleave(&self.data, channels, &mut pixels);
        let mut out = vec![f32::NAN; channels.div_ceil(LANES) * height * width * LANES];
        block(&pixels, channels, &mut out);
        out
    }

    pub(crate) fn pixels(&self) -> Vec<f32> {
        let mut pixels = vec![0.0; self.data.len()];
        interleave(&self.data, self.shape[0], &mut pixels);
        pixels
    }
}

pub(crate) fn convolve(x: &Map, conv: &Conv, pads: [usize; 4]) -> Map {
    let [kh, kw] = conv.kernel();
    let size = |axis: usize, k: usize| {
        (x.shape[axis + 1] + pads[axis] + pads[axis + 2] - (k - 1) * conv.dilation[axis] - 1) / conv.stride[axis] + 1
    };
    let (out, in_group) = (conv.channels(), conv.weight.shape()[1]);
    let (height, width) = (size(0, kh), size(1, kw));
    let mut data = Vec::new();
    for o in 0..out {
        for y in 0..height {
            for column in 0..width {
                let mut sum = 0.0;
                for i in 0..in_group {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let iy = (y * conv.stride[0] + ky * conv.dilation[0]) as isize - pads[0] as isize;
                            let ix = (column * conv.stride[1] + kx * conv.dilation[1]) as isize - pads[1] as isize;
                            let weight = conv.weight.data()[((o * in_group + i) * kh + ky) * kw + kx];
                            sum += x.at(o / (out / conv.group) * in_group + i, iy, ix) * f64::from(weight);
                        }
                    }
                }
                data.push(sum as f32);
            }
        }
    }
    Map {
        shape: [out, height, width],
        data,
    }
}

pub(crate) struct Case {
    pub(crate) input: [usize; 3],
    pub(crate) out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) group: usize,
    pub(crate) pads: [usize; 4],
    pub(crate) image: bool,
}

impl Case {
    /// The convolution, with random weights and no bias.
    pub(crate) fn conv(&self, random: &mut Random) -> Conv {
        let shape = [self.out, self.input[0] / self.group, self.kernel, self.kernel];
        Conv {
            weight: Tensor::new(shape, random.vector(shape.iter().product())),
            bias: None,
            stride: [self.stride; 2],
            dilation: [self.dilation; 2],
            group: self.group,
            padding: Padding::Explicit(self.pads),
        }
    }

    /// The forms in which it can be packed.
    pub(crate) fn forms(&self) -> Vec<Form> {
        let mut forms = vec![if self.image { Form::Image } else { Form::Direct }];
        if (self.kernel, self.stride, self.dilation, self.group, self.image) == (3, 1, 1, 1, false) {
            forms.extend([Winograd::F2, Winograd::F4].map(Form::Winograd));
        }
        forms
    }
}

const fn case(input: [usize; 3], out: usize, kernel: usize, stride: usize, group: usize) -> Case {
    let pad = kernel / 2;
    Case {
        input,
        out,
        kernel,
        stride,
        dilation: 1,
        group,
        pads: [pad; 4],
        image: false,
    }
}

pub(crate) fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return small_cases();
    }
    vec![
        Case {
            image: true,
            ..case([3, 19, 23], 20, 3, 2, 1)
        },
        Case {
            image: true,
            ..case([3, 30, 30], 64, 7, 2, 1)
        },
        case([24, 14, 14], 40, 1, 1, 1),
        case([40, 7, 7], 112, 1, 1, 1),
        case([33, 9, 30], 17, 3, 1, 1),
        case([64, 15, 15], 80, 3, 1, 1),
        case([64, 14, 14], 96, 3, 2, 1),
        case([48, 13, 13], 64, 1, 2, 1),
        case([300, 7, 7], 70, 3, 1, 1),
        case([24, 12, 17], 24, 3, 1, 24),
        case([40, 13, 13], 40, 5, 2, 40),
        case([20, 6, 40], 20, 3, 1, 20),
        case([16, 9, 71], 16, 5, 2, 16),
        case([18, 9, 9], 18, 7, 1, 18),
        case([32, 8, 8], 32, 3, 1, 4),
        case([24, 8, 8], 48, 3, 2, 24),
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([20, 11, 11], 33, 3, 1, 1)
        },
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([20, 11, 11], 20, 3, 1, 20)
        },
        Case {
            pads: [0, 0, 1, 1],
            ..case([16, 12, 12], 32, 3, 2, 1)
        },
        Case {
            pads: [0, 1, 2, 3],
            ..case([16, 5, 4], 16, 3, 1, 16)
        },
        Case {
            pads: [1, 1, 1, 1],
            ..case([16, 5, 5], 16, 1, 1, 1)
        },
        case([16, 1, 1], 32, 3, 1, 1),
        case([5, 200, 3], 7, 3, 1, 1),
    ]
}

/// The fewest channels and pixels that take every path, for an interpreter, which multiplies some ten thousand times a second.
fn small_cases() -> Vec<Case> {
    vec![
        Case {
            image: true,
            ..case([3, 7, 9], 20, 3, 2, 1)
        },
        Case {
            image: true,
            ..case([3, 6, 5], 17, 7, 2, 1)
        },
        case([17, 3, 4], 18, 1, 1, 1),
        case([17, 3, 6], 18, 3, 1, 1),
        // More than the weights that are looked at together.
        case([81, 1, 2], 64, 3, 1, 1),
        case([17, 3, 5], 18, 3, 2, 1),
        case([17, 3, 5], 18, 1, 2, 1),
        // Padded by several threads.
        Case {
            pads: [0, 0, 1, 1],
            ..case([17, 33, 65], 1, 3, 8, 1)
        },
        case([18, 4, 5], 18, 3, 1, 18),
        // Wide enough to be read in place.
        case([16, 4, 35], 16, 3, 1, 16),
        case([16, 5, 66], 16, 5, 2, 16),
        case([18, 3, 3], 18, 7, 1, 18),
        case([32, 3, 3], 32, 3, 1, 4),
        case([5, 4, 4], 10, 3, 2, 5),
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([4, 4, 4], 17, 3, 1, 1)
        },
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([18, 5, 5], 18, 3, 1, 18)
        },
        Case {
            pads: [0, 0, 1, 1],
            ..case([16, 4, 4], 17, 3, 2, 1)
        },
        Case {
            pads: [0, 1, 2, 3],
            ..case([16, 5, 4], 16, 3, 1, 16)
        },
        Case {
            pads: [1, 1, 1, 1],
            ..case([16, 3, 3], 16, 1, 1, 1)
        },
        case([16, 1, 1], 17, 3, 1, 1),
        case([2, 20, 3], 3, 3, 1, 1),
    ]
}

pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(1.0, |largest, value| largest.max(value.abs()))
}

/// Equal up to rounding of values as large as `scale`.
pub(crate) fn close(got: &[f32], want: &[f32], scale: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= 2e-5 * scale,
            "{what}: value {index}: expected {want}, got {got}"
        );
    }
}

#[test]
fn fused_convolution_equals_its_definition_at_every_level_and_thread_count() {
    let mut random = Random(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (number, case) in cases().into_iter().enumerate() {
        let Case {
            input,
            out,
            pads,
            image,
            ..
        } = case;
        let x = Map::random(input, &mut random);
        let conv = case.conv(&mut random);
        let sums = convolve(&x, &conv, pads);
        let shortcut = Map::random(sums.shape, &mut random);
        let forms = case.forms();
        let packed: Vec<_> = forms
            .iter()
            .map(|&form| Arc::new(PackedConv::new(&conv, form)))
            .collect();
        let bounds = Bounds { low: -0.5, high: 2.0 };
        for epilogue in [Epilogue::Affine, Epilogue::Kernel] {
            let kernels = random.vector(out * 9);
            let biases = random.vector(out);
            let layer = Conv {
                weight: Tensor::new([out, 1, 3, 3], kernels.clone()),
                stride: [1; 2],
                dilation: [1; 2],
                group: out,
                ..conv.clone()
            };
            let mut want = if epilogue == Epilogue::Kernel {
                convolve(&sums, &layer, [1; 4])
            } else {
                sums.clone()
            };
            // Before the clamp: that is what rounding is relative to.
            let scale = largest(&want.data);
            let plane = sums.shape[1] * sums.shape[2];
            let mut parameters = vec![0.0; out.div_ceil(LANES) * epilogue.parameters()];
            for c in 0..out {
                let block = &mut parameters[c / LANES * epilogue.parameters()..];
                if epilogue == Epilogue::Kernel {
                    (0..9).for_each(|tap| block[tap * LANES + c % LANES] = kernels[c * 9 + tap]);
                    block[9 * LANES + c % LANES] = biases[c];
                } else {
                    block[c % LANES] = kernels[c];
                    block[LANES + c % LANES] = biases[c];
                }
                let scale = if epilogue == Epilogue::Kernel { 1.0 } else { kernels[c] };
                for (value, shortcut) in want.data[c * plane..(c + 1) * plane]
                    .iter_mut()
                    .zip(&shortcut.data[c * plane..])
                {
                    *value = (*value * scale + biases[c] + shortcut).clamp(bounds.low, bounds.high);
                }
            }
            let source = if image { x.pixels() } else { x.blocks() };
            for (isa, (form, packed)) in Isa::available()
                .into_iter()
                .flat_map(|isa| forms.iter().zip(&packed).map(move |it| (isa, it)))
            {
                let mut answers = Vec::new();
                for threads in [1, 3] {
                    let fused = FusedConv {
                        conv: Arc::clone(packed),
                        input: [input[1], input[2]],
                        output: [sums.shape[1], sums.shape[2]],
                        pads,
                        epilogue,
                        bounds,
                        smooth: None,
                        isa,
                        threads,
                        arena: Arc::default(),
                    };
                    let mut blocks = vec![f32::NAN; fused.output_len()];
                    let residual = shortcut.blocks();
                    pool.install(|| fused.run(&source, &parameters, Some(&residual), &mut blocks));
                    let mut got = vec![0.0; want.data.len()];
                    unblock(&blocks, out, &mut got);
                    close(
                        &got,
                        &want.data,
                        scale,
                        &format!("case {number}, {epilogue:?}, {form:?}, {isa:?}, {threads} threads"),
                    );
                    let smooth = Smooth::Silu;
                    let fused = FusedConv {
                        smooth: Some(smooth),
                        ..fused
                    };
                    let mut activated = vec![f32::NAN; blocks.len()];
                    pool.install(|| fused.run(&source, &parameters, Some(&residual), &mut activated));
                    let mut want = blocks.clone();
                    activate(isa, &mut want, smooth);
                    assert_eq!(
                        activated, want,
                        "case {number}, {epilogue:?}, {form:?}: the fused activation"
                    );
                    answers.push(blocks);
                }
                assert_eq!(
                    answers[0], answers[1],
                    "case {number}, {epilogue:?}, {isa:?}: threads change the answer"
                );
            }
        }
    }
}

/// Every kind of pool with windows that overlap, leave gaps, are dilated, reach beyond the padded plane (ceil mode) or
/// lie in the padding alone, for planes of `input` rows × columns.
pub(crate) fn pool_shapes(input: [usize; 2]) -> Vec<PoolShape> {
    let windows = [
        ([3, 3], [2, 2], [1, 1], [1; 4]),
        ([2, 2], [2, 2], [1, 1], [0; 4]),
        ([3, 2], [1, 3], [1, 1], [0, 1, 2, 1]),
        ([3, 3], [2, 1], [2, 3], [2, 3, 2, 3]),
        ([2, 2], [1, 1], [3, 2], [4, 0, 0, 1]),
        ([1, 1], [2, 2], [1, 1], [0; 4]),
    ];
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { include_pad: true },
        PoolKind::Average { include_pad: false },
    ];
    let mut shapes = Vec::new();
    for (kernel, stride, dilation, pads) in windows {
        for ceil in [false, true] {
            let size = |axis: usize| {
                let reach = (kernel[axis] - 1) * dilation[axis] + 1;
                let room = (input[axis] + pads[axis] + pads[axis + 2]).checked_sub(reach)?;
                Some(
                    if ceil {
                        room.div_ceil(stride[axis])
                    } else {
                        room / stride[axis]
                    } + 1,
                )
            };
            if let (Some(rows), Some(columns)) = (size(0), size(1)) {
                shapes.extend(kinds.map(|kind| PoolShape {
                    kind,
                    input,
                    output: [rows, columns],
                    kernel,
                    stride,
                    dilation,
                    pads,
                }));
            }
        }
    }
    shapes
}

/// The pool of one block `[H, W, 16]`, by its definition: for each output the values it reads, and what a mean divides by.
pub(crate) fn pool_reads(shape: &PoolShape, output: [usize; 2]) -> (Vec<usize>, f64) {
    let (mut reads, mut counted) = (Vec::new(), 0_usize);
    for ky in 0..shape.kernel[0] {
        for kx in 0..shape.kernel[1] {
            // In the padded plane.
            let place = [ky, kx];
            let at: [usize; 2] =
                std::array::from_fn(|axis| output[axis] * shape.stride[axis] + place[axis] * shape.dilation[axis]);
            let padded = |axis: usize| at[axis] < shape.input[axis] + shape.pads[axis] + shape.pads[axis + 2];
            let inside = |axis: usize| at[axis] >= shape.pads[axis] && at[axis] - shape.pads[axis] < shape.input[axis];
            if inside(0) && inside(1) {
                reads.push((at[0] - shape.pads[0]) * shape.input[1] + at[1] - shape.pads[1]);
            }
            counted += usize::from(padded(0) && padded(1));
        }
    }
    let count = match shape.kind {
        PoolKind::Average { include_pad: true } => counted,
        _ => reads.len(),
    };
    (reads, count.max(1) as f64)
}

#[test]
fn pooling_equals_its_definition() {
    let mut random = Random(2);
    for input in if cfg!(miri) {
        vec![[4, 5]]
    } else {
        vec![[11, 13], [1, 1], [2, 7]]
    } {
        let x = random.vector(input[0] * input[1] * LANES);
        for shape in pool_shapes(input) {
            let mut want = Vec::new();
            for at in 0..shape.output[0] * shape.output[1] {
                let (reads, count) = pool_reads(&shape, [at / shape.output[1], at % shape.output[1]]);
                for lane in 0..LANES {
                    let values = reads.iter().map(|place| f64::from(x[place * LANES + lane]));
                    want.push(match shape.kind {
                        PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max) as f32,
                        PoolKind::Average { .. } => (values.sum::<f64>() / count) as f32,
                    });
                }
            }
            for isa in Isa::available() {
                let mut got = vec![f32::NAN; want.len()];
                pool(isa, &shape, &x, &mut got);
                for (got, want) in got.iter().zip(&want) {
                    assert!(
                        got == want || (got - want).abs() < 1e-5,
                        "{shape:?} {isa:?}: expected {want}, got {got}"
                    );
                }
            }
        }
    }
}

#[test]
fn joining_keeps_every_channel_in_its_place() {
    let mut random = Random(3);
    let maps = [[24, 3, 2], [16, 3, 2], [5, 3, 2], [40, 3, 2]].map(|shape| Map::random(shape, &mut random));
    let blocks = maps.each_ref().map(Map::blocks);
    let parts: Vec<(&[f32], usize)> = blocks
        .iter()
        .zip(&maps)
        .map(|(blocks, map)| (&blocks[..], map.shape[0]))
        .collect();
    let mut out = vec![f32::NAN; 85usize.div_ceil(LANES) * 6 * LANES];
    let index: Vec<u32> = (0..85).collect();
    gather_channels(&parts, &index, 6, &mut out);
    let mut got = vec![0.0; 85 * 6];
    unblock(&out, 85, &mut got);
    let want: Vec<f32> = maps.iter().flat_map(|map| map.data.iter().copied()).collect();
    assert_eq!(got, want);
    assert!(out.iter().all(|value| value.is_finite()));
}

#[test]
fn nan_and_infinity_reach_the_output() {
    let mut values = [f32::NAN; 32];
    for isa in Isa::available() {
        let x = vec![f32::NAN; 32];
        let parameters = vec![1.0; AFFINE_PARAMETERS];
        affine(isa, &x, &parameters, 32, &mut values, Bounds { low: 0.0, high: 6.0 });
        assert!(values.iter().all(|value| value.is_nan()), "{isa:?}");
    }
}

#[test]
fn dense_layer_equals_its_definition() {
    let mut random = Random(4);
    let many = if cfg!(miri) { 130 } else { 1280 };
    for (inputs, outputs) in [(many, 10), (67, 3), (5, 1)] {
        let (weight, bias, x) = (
            random.vector(inputs * outputs),
            random.vector(outputs),
            random.vector(inputs),
        );
        let want: Vec<f32> = (0..outputs)
            .map(|o| {
                let row = &weight[o * inputs..(o + 1) * inputs];
                let sum: f64 = row.iter().zip(&x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                (sum + f64::from(bias[o])) as f32
            })
            .collect();
        for isa in Isa::available() {
            let mut got = vec![0.0; outputs];
            dense(isa, &weight, &bias, &x, &mut got);
            close(&got, &want, largest(&want), "dense");
        }
    }
}
