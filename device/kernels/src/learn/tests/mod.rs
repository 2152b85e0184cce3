//! Gradients compared with their definitions in plain loops, for every instruction set of this machine.

mod channels;
mod elementwise;
mod pixels;

use std::sync::Arc;

use clr_onnx::{Conv, Padding, Tensor};

use super::*;
use crate::{
    Arena, Bounds, Epilogue, Form, FusedConv, Isa, LANES, PackedConv, PoolKind, pack_parameters,
    tests::{
        Map, Random, cases, close, convolve, largest,
        pool::{pool_reads, pool_shapes},
    },
    unblock,
};

const RELU6: Bounds = Bounds { low: 0.0, high: 6.0 };

fn planes(blocks: &[f32], [channels, height, width]: [usize; 3]) -> Vec<f32> {
    let mut planes = vec![0.0; channels * height * width];
    unblock(blocks, channels, &mut planes);
    planes
}

/// Distributes the gradient of every output value to the inputs from which it was computed.
fn spread(dy: &Map, conv: &Conv, pads: [usize; 4], input: [usize; 3]) -> Vec<f32> {
    let [_, height, width] = input;
    let [kh, kw] = conv.kernel();
    let (out, in_group) = (conv.channels(), conv.weight.shape()[1]);
    let mut dx = vec![0.0_f64; input.iter().product()];
    for o in 0..out {
        for y in 0..dy.shape[1] {
            for x in 0..dy.shape[2] {
                for i in 0..in_group {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let iy = (y * conv.stride[0] + ky * conv.dilation[0]).wrapping_sub(pads[0]);
                            let ix = (x * conv.stride[1] + kx * conv.dilation[1]).wrapping_sub(pads[1]);
                            if iy < height && ix < width {
                                let channel = o / (out / conv.group) * in_group + i;
                                let weight = conv.weight.values()[((o * in_group + i) * kh + ky) * kw + kx];
                                dx[(channel * height + iy) * width + ix] +=
                                    dy.at(o, y as isize, x as isize) * f64::from(weight);
                            }
                        }
                    }
                }
            }
        }
    }
    dx.into_iter().map(|value| value as f32).collect()
}

/// Returns convolutions that use rare branches of the gradient: paddings wider than the kernel's reach, rectangular
/// kernels, strides larger than the kernel, outputs that only read padding, groups of any width.
fn odd_convolutions() -> Vec<(Conv, [usize; 2])> {
    let conv = |shape: [usize; 4], group, stride, dilation, pads| {
        let weight = Random(shape.iter().sum::<usize>() as u64).vector(shape.iter().product());
        Conv {
            weight: Tensor::new(shape, weight).into(),
            bias: None,
            stride,
            dilation,
            group,
            padding: Padding::Explicit(pads),
        }
    };
    let mut all = vec![
        (conv([17, 5, 1, 1], 1, [1, 1], [1, 1], [1, 0, 2, 3]), [3, 4]),
        (conv([20, 2, 3, 3], 10, [1, 1], [1, 1], [4, 0, 5, 3]), [2, 6]),
        (conv([18, 18, 1, 7], 1, [1, 1], [1, 1], [0, 3, 0, 3]), [4, 5]),
        (conv([12, 4, 5, 1], 3, [2, 1], [1, 1], [2, 0, 2, 0]), [7, 3]),
        (conv([9, 3, 2, 3], 3, [3, 2], [2, 3], [5, 1, 0, 4]), [8, 9]),
        (conv([16, 1, 3, 3], 16, [2, 2], [1, 1], [3, 3, 3, 3]), [5, 5]),
        (conv([8, 4, 2, 2], 2, [5, 4], [1, 1], [3, 0, 3, 0]), [9, 9]),
        (conv([6, 3, 1, 1], 1, [1, 1], [1, 1], [9, 9, 9, 9]), [1, 1]),
        (conv([48, 24, 3, 3], 2, [1, 1], [1, 1], [1, 1, 1, 1]), [4, 4]),
        (conv([24, 8, 3, 3], 3, [2, 2], [1, 1], [1, 1, 1, 1]), [6, 5]),
        (conv([40, 4, 3, 3], 10, [1, 1], [2, 2], [2, 2, 2, 2]), [5, 6]),
        (conv([24, 2, 5, 3], 12, [2, 1], [1, 1], [2, 1, 2, 1]), [7, 40]),
        (conv([40, 8, 3, 3], 5, [1, 2], [1, 1], [1, 1, 1, 1]), [6, 37]),
        (conv([36, 12, 3, 3], 3, [1, 1], [1, 1], [1, 1, 1, 1]), [4, 5]),
        (conv([72, 24, 1, 1], 3, [1, 1], [1, 1], [0, 0, 0, 0]), [3, 7]),
        // So many weights that they are summed in several rounds, of which the first starts within a block.
        (conv([304, 152, 5, 5], 2, [1, 1], [1, 1], [2, 2, 2, 2]), [2, 3]),
        (conv([30, 20, 3, 3], 2, [1, 1], [1, 1], [1, 1, 1, 1]), [3, 3]),
        (conv([16, 4, 1, 3], 2, [1, 1], [1, 1], [0, 1, 0, 1]), [3, 6]),
    ];
    // Miri executes only some ten thousand multiplications per second.
    all.retain(|(conv, _)| !cfg!(miri) || conv.weight.count() < 400);
    all
}

#[test]
fn a_convolution_of_any_shape_equals_its_definition() {
    let mut random = Random(22);
    for (number, (conv, size)) in odd_convolutions().into_iter().enumerate() {
        let Padding::Explicit(pads) = conv.padding else {
            unreachable!("the cases' paddings are explicit")
        };
        let input = [conv.weight.shape()[1] * conv.group, size[0], size[1]];
        let x = Map::random(input, &mut random);
        let want = convolve(&x, &conv, pads);
        let packed = PackedConv::new(&conv, Form::Direct);
        assert_eq!(
            packed.bytes(),
            PackedConv::bytes_of(&conv, Form::Direct),
            "case {number}"
        );
        let packed = Arc::new(packed);
        let ones = vec![1.0; conv.channels()];
        for isa in Isa::available() {
            let fused = FusedConv {
                conv: Arc::clone(&packed),
                input: size,
                output: [want.shape[1], want.shape[2]],
                pads,
                epilogue: Epilogue::Affine,
                bounds: Bounds::NONE,
                smooth: None,
                isa,
                threads: 1,
                arena: Arc::default(),
            };
            let mut y = vec![f32::NAN; fused.output_len()];
            let identity = pack_parameters(&ones, &vec![0.0; conv.channels()]);
            fused.run(&x.blocks(), &identity, None, &mut y);
            let what = format!("case {number} at {isa:?}");
            close(&planes(&y, want.shape), &want.data, largest(&want.data), &what);
        }
    }
}

#[test]
fn the_convolutions_gradient_equals_its_definition() {
    let usual = cases().into_iter().filter(|case| !case.image).map(|case| {
        let shape = [case.out, case.input[0] / case.group, case.kernel, case.kernel];
        let conv = Conv {
            weight: Tensor::new(shape, Random(20).vector(shape.iter().product())).into(),
            bias: None,
            stride: [case.stride; 2],
            dilation: [case.dilation; 2],
            group: case.group,
            padding: Padding::Explicit(case.pads),
        };
        (conv, [case.input[1], case.input[2]])
    });
    let mut random = Random(21);
    for (number, (conv, size)) in usual.chain(odd_convolutions()).enumerate() {
        let Padding::Explicit(pads) = conv.padding else {
            unreachable!("the cases' paddings are explicit")
        };
        let input = [conv.weight.shape()[1] * conv.group, size[0], size[1]];
        let output: [usize; 2] = std::array::from_fn(|axis| {
            let reach = (conv.kernel()[axis] - 1) * conv.dilation[axis] + 1;
            (size[axis] + pads[axis] + pads[axis + 2] - reach) / conv.stride[axis] + 1
        });
        let dy = Map::random([conv.channels(), output[0], output[1]], &mut random);
        let want = spread(&dy, &conv, pads, input);
        for isa in Isa::available() {
            let gradient = ConvGradient::new(&conv, size, output, pads, isa, &Arc::default());
            let mut dx = vec![f32::NAN; gradient.input_len()];
            gradient.run(&dy.blocks(), &mut dx);
            let got = planes(&dx, input);
            close(&got, &want, largest(&want), &format!("case {number} at {isa:?}"));
            let (dy, mut together) = (dy.blocks(), [vec![f32::NAN; dx.len()], vec![f32::NAN; dx.len()]]);
            let other: Vec<f32> = dy.iter().map(|value| 2.0 * value).collect();
            let images = [&other, &dy].into_iter().zip(&mut together);
            let mut images: Vec<(&[f32], &mut [f32])> = images.map(|(dy, dx)| (&dy[..], &mut dx[..])).collect();
            gradient.run_images(&mut images);
            assert_eq!(
                together[1], dx,
                "case {number} at {isa:?}: another image changes the gradient"
            );
        }
    }
}

/// Returns parameters in blocks from `[C][taps]`, the bias last.
fn blocks(values: &[f32], taps: usize) -> Vec<f32> {
    let channels = values.len() / taps;
    let mut blocks = vec![0.0; channels.div_ceil(LANES) * taps * LANES];
    for (at, &value) in values.iter().enumerate() {
        let (channel, tap) = (at / taps, at % taps);
        blocks[(channel / LANES * taps + tap) * LANES + channel % LANES] = value;
    }
    blocks
}

/// Computes the CLR layer (`taps` = 10) or the affine (`taps` = 2) in plain loops. Returns the result, and the
/// gradients of x and of the parameters.
fn site(x: &Map, dy: &Map, parameters: &[f32], taps: usize, bounds: Bounds) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let [channels, height, width] = x.shape;
    let (mut y, mut dx, mut sums) = (Vec::new(), vec![0.0_f64; x.data.len()], vec![0.0_f64; parameters.len()]);
    let reach = isize::from(taps == 10);
    for c in 0..channels {
        let own = &parameters[c * taps..(c + 1) * taps];
        for row in 0..height as isize {
            for column in 0..width as isize {
                let places: Vec<(isize, isize)> = (-reach..=reach)
                    .flat_map(|dy| (-reach..=reach).map(move |dx| (row + dy, column + dx)))
                    .collect();
                let values = places
                    .iter()
                    .zip(own)
                    .map(|(&(y, x_), &tap)| x.at(c, y, x_) * f64::from(tap));
                let z = values.sum::<f64>() + f64::from(own[taps - 1]);
                y.push(z.clamp(f64::from(bounds.low), f64::from(bounds.high)) as f32);
                let inside = f64::from(bounds.low) < z && z < f64::from(bounds.high);
                let g = if inside { dy.at(c, row, column) } else { 0.0 };
                sums[c * taps + taps - 1] += g;
                for (tap, &(py, px)) in places.iter().enumerate() {
                    sums[c * taps + tap] += g * x.at(c, py, px);
                    if py >= 0 && px >= 0 && py < height as isize && px < width as isize {
                        dx[(c * height + py as usize) * width + px as usize] += g * f64::from(own[tap]);
                    }
                }
            }
        }
    }
    let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (y, single(dx), single(sums))
}

#[test]
fn epilogues_and_their_gradients_equal_their_definitions() {
    let mut random = Random(22);
    for (shape, taps) in [
        ([24, 9, 7], 10),
        ([16, 1, 1], 10),
        ([37, 3, 20], 10),
        ([24, 9, 7], 2),
        ([5, 1, 1], 2),
    ] {
        let plane = shape[1] * shape[2] * LANES;
        let (x, dy) = (Map::random(shape, &mut random), Map::random(shape, &mut random));
        let mut parameters = random.vector(shape[0] * taps);
        for value in &mut parameters {
            *value *= 3.0;
        }
        let packed = blocks(&parameters, taps);
        for bounds in [RELU6, Bounds::NONE] {
            let (y, dx, sums) = site(&x, &dy, &parameters, taps, bounds);
            for isa in Isa::available() {
                let arena = Arena::default();
                let size = [shape[1], shape[2]];
                let (x, mut got_dx) = (x.blocks(), dy.blocks());
                let mut got_y = vec![f32::NAN; x.len()];
                let mut got_sums = vec![1.0; packed.len()];
                if taps == 10 {
                    clr_forward(isa, &arena, &x, &packed, size, &mut got_y, bounds);
                    let sums = Some(&mut got_sums[..]);
                    clr_gradient(isa, &arena, &x, &packed, size, &mut got_dx, sums, bounds, true);
                } else {
                    affine_forward(isa, &x, &packed, plane, &mut got_y, bounds);
                    affine_gradient(isa, &x, &packed, plane, &mut got_dx, Some(&mut got_sums), bounds);
                }
                let what = format!("{shape:?}, {taps} parameters at {isa:?}");
                close(&planes(&got_y, shape), &y, largest(&y), &what);
                close(&planes(&got_dx, shape), &dx, largest(&dx), &what);
                // Previous content of the sums is kept.
                let want: Vec<f32> = blocks(&sums, taps).iter().map(|value| value + 1.0).collect();
                close(&got_sums[..], &want, largest(&want), &what);
            }
        }
    }
}

#[test]
fn pool_gradients_equal_their_definition() {
    let mut random = Random(23);
    for input in if cfg!(miri) {
        vec![[4, 5]]
    } else {
        vec![[9, 6], [1, 1], [2, 7]]
    } {
        let x = random.vector(input[0] * input[1] * LANES);
        for shape in pool_shapes(input) {
            let dy = random.vector(shape.output[0] * shape.output[1] * LANES);
            let mut want = vec![0.0_f64; x.len()];
            for at in 0..shape.output[0] * shape.output[1] {
                let (reads, count) = pool_reads(&shape, [at / shape.output[1], at % shape.output[1]]);
                for lane in 0..LANES {
                    let g = f64::from(dy[at * LANES + lane]);
                    if shape.kind == PoolKind::Max {
                        let value = |place: &usize| x[place * LANES + lane];
                        if let Some(first) = reads.iter().rev().max_by(|a, b| value(a).total_cmp(&value(b))) {
                            want[first * LANES + lane] += g;
                        }
                    } else {
                        for place in &reads {
                            want[place * LANES + lane] += g / count;
                        }
                    }
                }
            }
            let want: Vec<f32> = want.into_iter().map(|value| value as f32).collect();
            for isa in Isa::available() {
                let mut dx = vec![f32::NAN; x.len()];
                pool_gradient(isa, &shape, &x, &dy, &mut dx);
                close(&dx, &want, largest(&want), &format!("{shape:?} {isa:?}"));
            }
        }
    }
    let mut dx = vec![f32::NAN; 2 * 6 * LANES];
    let dy = random.vector(2 * LANES);
    global_average_gradient(&dy, 6 * LANES, &mut dx);
    for (at, dx) in dx.iter().enumerate() {
        let dy = dy[at / (6 * LANES) * LANES + at % LANES];
        assert!((dx - dy / 6.0).abs() < 1e-6);
    }
}
