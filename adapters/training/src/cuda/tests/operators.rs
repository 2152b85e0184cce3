//! Every operator's host side with the compiled kernels, against the CPU operator's values and gradients.

use super::compiled::{Buffer, Compiled};
use crate::cuda::arguments::Act;
use crate::cuda::backend::Backend as _;
use crate::cuda::site::Wanted;
use crate::cuda::{conv, elementwise, norm, pool, site};
use crate::kernels::buffer::Map;
use crate::kernels::{plan, pool as cpu_pool};
use crate::ops;
use candle_core::{Device, Result, Tensor, Var};
use clr_onnx::{Activation, Conv, Padding, Pool};
use std::collections::BTreeSet;

const LIMIT: f32 = 1e-4;

const ACTIVATIONS: [Option<Activation>; 8] = [
    None,
    Some(Activation::Relu),
    Some(Activation::Clip { min: -0.5, max: 0.75 }),
    Some(Activation::LeakyRelu { alpha: 0.1 }),
    Some(Activation::Sigmoid),
    Some(Activation::HardSigmoid { alpha: 0.4, beta: 0.5 }),
    Some(Activation::HardSwish),
    Some(Activation::Silu),
];

/// Single pixels, odd sizes, more values than a block has threads.
const MAPS: [Map; 4] = [
    Map { n: 1, c: 1, h: 1, w: 1 },
    Map { n: 2, c: 3, h: 5, w: 7 },
    Map {
        n: 3,
        c: 5,
        h: 14,
        w: 13,
    },
    Map {
        n: 2,
        c: 2,
        h: 33,
        w: 9,
    },
];

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 4_194_304.0 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn shape(map: Map) -> [usize; 4] {
    [map.n, map.c, map.h, map.w]
}

/// The CPU operator's result, then the gradients of `Σ y · dy` for its arguments; `dy` are the values of seed 99.
fn on_the_cpu(arguments: &[(&[usize], &[f32])], run: impl FnOnce(&[Var]) -> Result<Tensor>) -> Result<Vec<Vec<f32>>> {
    let variables = arguments
        .iter()
        .map(|(shape, values)| Var::from_tensor(&Tensor::from_slice(values, *shape, &Device::Cpu)?))
        .collect::<Result<Vec<_>>>()?;
    let y = run(&variables)?;
    let dy = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), &Device::Cpu)?;
    let gradients = (&y * dy)?.sum_all()?.backward()?;
    let mut all = vec![y.flatten_all()?.to_vec1()?];
    for variable in &variables {
        let gradient = gradients.get(variable).expect("a gradient for every argument");
        all.push(gradient.flatten_all()?.to_vec1()?);
    }
    Ok(all)
}

/// Runs `kernels` forwards and backwards through the threads, and compares both with `expected`.
fn check(
    name: &str,
    compiled: &mut Compiled,
    expected: &[Vec<f32>],
    kernels: impl Fn(&Compiled) -> Result<Vec<Buffer>>,
) -> Result<()> {
    let mut run = |reversed: bool| -> Result<Vec<Buffer>> {
        compiled.reversed = reversed;
        kernels(compiled)
    };
    let (forwards, backwards) = (run(false)?, run(true)?);
    assert_eq!(expected.len(), forwards.len(), "{name}");
    for (index, (expected, (got, reversed))) in expected.iter().zip(forwards.iter().zip(&backwards)).enumerate() {
        let got = got.values();
        assert_eq!(expected.len(), got.len(), "{name}, result {index}");
        // With one value per channel a normalised gradient is a difference of equal numbers.
        let largest = expected.iter().fold(1e-2f32, |largest, x| largest.max(x.abs()));
        for (position, (expected, got)) in expected.iter().zip(got).enumerate() {
            let same = expected == got || (expected.is_nan() && got.is_nan());
            let error = (expected - got).abs() / largest;
            assert!(
                same || error < LIMIT,
                "{name}, result {index} at {position}: expected {expected}, got {got}"
            );
        }
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(got),
            bits(reversed.values()),
            "{name}, result {index} depends on the order of the threads"
        );
    }
    Ok(())
}

fn convolutions(compiled: &mut Compiled) -> Result<()> {
    let same = Padding::SameUpper;
    let pads = Padding::Explicit;
    for (map, outputs, groups, kernel, stride, dilation, padding) in [
        ([2, 5, 4, 3], 6, 1, [1, 1], [1, 1], [1, 1], pads([0; 4])),
        ([3, 4, 1, 1], 7, 1, [1, 1], [1, 1], [1, 1], pads([0; 4])),
        ([2, 5, 7, 4], 6, 1, [1, 1], [2, 2], [1, 1], pads([0; 4])),
        ([2, 3, 7, 6], 4, 1, [3, 3], [1, 1], [1, 1], pads([1; 4])),
        ([3, 3, 9, 11], 4, 1, [3, 3], [2, 2], [1, 1], same),
        ([3, 3, 8, 11], 4, 1, [3, 3], [2, 1], [1, 1], Padding::SameLower),
        ([1, 2, 19, 10], 3, 1, [7, 7], [2, 2], [1, 1], pads([3; 4])),
        ([2, 2, 8, 9], 3, 1, [3, 3], [1, 1], [2, 2], pads([2, 1, 0, 3])),
        ([2, 2, 7, 8], 3, 1, [1, 3], [1, 3], [1, 1], pads([0, 1, 0, 0])),
        ([2, 1, 6, 6], 1, 1, [5, 5], [1, 1], [1, 1], same),
        ([2, 6, 5, 4], 4, 2, [3, 3], [1, 1], [1, 1], pads([1; 4])),
        ([2, 8, 9, 7], 12, 4, [3, 3], [2, 2], [1, 1], same),
        ([2, 3, 7, 8], 3, 3, [3, 3], [1, 1], [1, 1], same),
        ([2, 3, 17, 18], 3, 3, [5, 5], [2, 2], [1, 1], same),
        ([1, 4, 13, 15], 4, 4, [5, 5], [1, 1], [2, 2], same),
        ([1, 2, 6, 5], 6, 2, [3, 3], [1, 1], [1, 1], pads([1; 4])),
    ] {
        let [n, c, h, w] = map;
        let from = Map { n, c, h, w };
        let weight = values(outputs * c / groups * kernel[0] * kernel[1], 2);
        let conv = Conv {
            weight: clr_onnx::Tensor::new([outputs, c / groups, kernel[0], kernel[1]], weight.clone()),
            bias: None,
            stride,
            dilation,
            group: groups,
            padding,
        };
        let x = values(from.len(), 1);
        let frozen = ops::FrozenConv::new(&conv, &Device::Cpu)?;
        let expected = on_the_cpu(&[(&map, &x)], |v| frozen.forward(&v[0]))?;
        let window = plan::Window {
            kernel,
            stride,
            dilation,
            pads: match padding {
                Padding::Explicit(pads) => pads,
                same => same.resolve([h, w], kernel, stride, dilation),
            },
        };
        let [oh, ow] = window.output([h, w]).expect("a window that fits");
        let to = Map {
            n,
            c: outputs,
            h: oh,
            w: ow,
        };
        let dy = values(to.len(), 99);
        // All pictures at once, two at a time, one by one.
        let picture = c * kernel[0] * kernel[1] * oh * ow;
        for most_columns in [conv::MOST_COLUMNS, 2 * picture, 1] {
            let name = format!("{conv:?} of {map:?}, {most_columns} columns");
            let name = name.replace(&format!("{weight:?}"), "");
            let convolution = conv::Convolution {
                window,
                groups,
                from,
                to,
                most_columns,
            };
            let (x, dy, weight) = (Compiled::buffer(&x), Compiled::buffer(&dy), Compiled::buffer(&weight));
            check(&name, compiled, &expected, |on| {
                let y = conv::forward(on, on.view(&x), on.view(&weight), convolution)?;
                let dx = conv::backward(on, on.view(&dy), on.view(&weight), convolution)?;
                Ok(vec![y, dx])
            })?;
        }
    }
    Ok(())
}

fn channels(compiled: &mut Compiled) -> Result<()> {
    for map in MAPS {
        let (c, count) = (map.c, map.len());
        let flat = [map.n, c, map.h, map.w];
        let (x, dy) = (values(count, 1), values(count, 99));
        let (scale, shift) = (values(c, 3), values(c, 4));
        let [vx, vdy, vscale, vshift] = [&x, &dy, &scale, &shift].map(|values| Compiled::buffer(values));
        for activation in ACTIVATIONS {
            let act = Act::new(activation).expect("a known activation");
            let name = format!("{map:?} {activation:?}");
            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&[c], &scale), (&[c], &shift)];
            let expected = on_the_cpu(&arguments, |v| ops::scale_shift(&v[0], &v[1], &v[2], activation))?;
            check(&format!("affine {name}"), compiled, &expected, |on| {
                let [x, dy, scale, shift] = [&vx, &vdy, &vscale, &vshift].map(|buffer| on.view(buffer));
                let y = elementwise::affine(on, x, scale, shift, act, map)?;
                let dx = elementwise::affine_input(on, x, dy, scale, shift, act, map)?;
                let [ds, db] = elementwise::affine_sums(on, x, dy, scale, shift, act, map)?;
                Ok(vec![y, dx, ds, db])
            })?;
            let other = values(count, 5);
            let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&flat, &other)];
            let expected = on_the_cpu(&arguments, |v| ops::add_activation(&v[0], &v[1], activation))?;
            let vother = Compiled::buffer(&other);
            check(&format!("add {name}"), compiled, &expected[..2], |on| {
                let [a, b, dy] = [&vx, &vother, &vdy].map(|buffer| on.view(buffer));
                let y = elementwise::add(on, a, b, act, count)?;
                Ok(vec![y, elementwise::add_input(on, a, b, dy, act, count)?])
            })?;
            let Some(activation) = activation else { continue };
            let expected = on_the_cpu(&[(&flat, &x)], |v| ops::activation(&v[0], activation))?;
            check(&format!("activation {name}"), compiled, &expected, |on| {
                let (x, dy) = (on.view(&vx), on.view(&vdy));
                let y = elementwise::activate(on, x, act, count)?;
                Ok(vec![y, elementwise::activate_input(on, x, dy, act, count)?])
            })?;
        }
        let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&[c], &scale)];
        let expected = on_the_cpu(&arguments, |v| ops::prelu(&v[0], &v[1]))?;
        check(&format!("prelu {map:?}"), compiled, &expected, |on| {
            let (x, slope, dy) = (on.view(&vx), on.view(&vscale), on.view(&vdy));
            let y = elementwise::prelu(on, x, slope, map)?;
            let dx = elementwise::prelu_input(on, x, slope, dy, map)?;
            Ok(vec![y, dx, elementwise::prelu_sums(on, x, dy, map)?])
        })?;
    }
    Ok(())
}

fn sites(compiled: &mut Compiled) -> Result<()> {
    const EPSILON: f32 = 1e-3;
    let wanted = Wanted { x: true, weights: true };
    for map in MAPS {
        let c = map.c;
        let (flat, taps) = (shape(map), [c, 1, 3, 3]);
        let (x, kernel, gamma, beta) = (values(map.len(), 1), values(9 * c, 2), values(c, 3), values(c, 4));
        let [vx, vdy, vkernel, vgamma, vbeta] =
            [&x, &values(map.len(), 99), &kernel, &gamma, &beta].map(|values| Compiled::buffer(values));
        let arguments: [(&[usize], &[f32]); 2] = [(&flat, &x), (&taps, &kernel)];
        let expected = on_the_cpu(&arguments, |v| ops::clr_depthwise(&v[0], &v[1]))?;
        check(&format!("depthwise {map:?}"), compiled, &expected, |on| {
            let (x, dy, kernel) = (on.view(&vx), on.view(&vdy), on.view(&vkernel));
            let y = site::forward(on, x, kernel, None, Act::default(), map)?;
            let gradients = site::backward(on, x, kernel, None, Act::default(), dy, map, wanted)?;
            let [dk, _] = gradients.weights.expect("weights");
            Ok(vec![y, gradients.x.expect("x"), dk])
        })?;
        for activation in ACTIVATIONS {
            let act = Act::new(activation).expect("a known activation");
            let name = format!("{map:?} {activation:?}");
            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&taps, &kernel), (&[c], &beta)];
            let expected = on_the_cpu(&arguments, |v| ops::clr_site(&v[0], &v[1], &v[2], activation))?;
            check(&format!("site {name}"), compiled, &expected, |on| {
                let [x, dy, kernel, bias] = [&vx, &vdy, &vkernel, &vbeta].map(|buffer| on.view(buffer));
                let y = site::forward(on, x, kernel, Some(bias), act, map)?;
                let gradients = site::backward(on, x, kernel, Some(bias), act, dy, map, wanted)?;
                let [dk, db] = gradients.weights.expect("weights");
                Ok(vec![y, gradients.x.expect("x"), dk, db])
            })?;

            let arguments: [(&[usize], &[f32]); 3] = [(&flat, &x), (&[c], &gamma), (&[c], &beta)];
            let mut statistics = None;
            let mut expected = on_the_cpu(&arguments, |v| {
                let (y, batch) = ops::batch_norm(&v[0], &v[1], &v[2], EPSILON, activation)?;
                statistics = Some(batch);
                Ok(y)
            })?;
            joined(&mut expected, statistics);
            check(&format!("norm {name}"), compiled, &expected, |on| {
                let [x, dy, gamma, beta] = [&vx, &vdy, &vgamma, &vbeta].map(|buffer| on.view(buffer));
                let normal = norm::forward(on, x, [gamma, beta], EPSILON, act, map)?;
                let statistics = [on.view(&normal.mean), on.view(&normal.variance)];
                let (dx, sums) = norm::backward(on, x, dy, [gamma, beta], statistics, EPSILON, act, map)?;
                Ok(vec![normal.y, dx, sums, normal.mean, normal.variance])
            })?;

            let arguments: [(&[usize], &[f32]); 4] = [(&flat, &x), (&taps, &kernel), (&[c], &gamma), (&[c], &beta)];
            let mut statistics = None;
            let mut expected = on_the_cpu(&arguments, |v| {
                let (y, batch) = ops::clr_batch_norm(&v[0], &v[1], &v[2], &v[3], EPSILON, activation)?;
                statistics = Some(batch);
                Ok(y)
            })?;
            joined(&mut expected, statistics);
            check(&format!("site norm {name}"), compiled, &expected, |on| {
                let [x, dy, kernel, gamma, beta] = [&vx, &vdy, &vkernel, &vgamma, &vbeta].map(|buffer| on.view(buffer));
                let normal = site::norm_forward(on, x, kernel, [gamma, beta], EPSILON, act, map)?;
                let statistics = [on.view(&normal.mean), on.view(&normal.variance)];
                let affine = [gamma, beta];
                let (gradients, sums) =
                    site::norm_backward(on, x, dy, kernel, affine, statistics, EPSILON, act, map, wanted)?;
                let [dk, _] = gradients.weights.expect("weights");
                let dx = gradients.x.expect("x");
                Ok(vec![normal.y, dx, dk, sums, normal.mean, normal.variance])
            })?;
        }
    }
    Ok(())
}

/// The gradients of gamma and beta as one table, then the statistics.
fn joined(expected: &mut Vec<Vec<f32>>, statistics: Option<ops::BatchStats>) {
    let beta = expected.pop().expect("a gradient of beta");
    expected.last_mut().expect("a gradient of gamma").extend(beta);
    let statistics = statistics.expect("statistics");
    expected.extend([statistics.mean, statistics.var]);
}

fn pools(compiled: &mut Compiled) -> Result<()> {
    for (map, kernel, stride, pads, ceil) in [
        ([2, 3, 7, 9], [3, 3], [2, 2], [1, 1, 1, 1], false),
        ([2, 3, 8, 6], [2, 2], [2, 2], [0, 0, 0, 0], false),
        ([1, 2, 8, 9], [3, 3], [2, 2], [0, 0, 0, 0], true),
        ([3, 2, 15, 14], [3, 2], [1, 3], [1, 0, 0, 1], false),
        ([1, 2, 6, 6], [2, 2], [3, 3], [1, 1, 1, 1], true),
    ] {
        let [n, c, h, w] = map;
        let from = Map { n, c, h, w };
        let x = values(from.len(), 1);
        for count_pad in [false, true] {
            let name = format!("{map:?} {kernel:?} / {stride:?} pads {pads:?} ceil {ceil} count {count_pad}");
            let window = cpu_pool::Window {
                kernel,
                stride,
                pads,
                ceil,
                count_pad,
            };
            let given = Pool {
                kernel,
                stride,
                padding: Padding::Explicit(pads),
                ceil,
                count_include_pad: count_pad,
            };
            let [oh, ow] = window.output([h, w]).expect("a window that fits");
            let to = Map { h: oh, w: ow, ..from };
            let (vx, vdy) = (Compiled::buffer(&x), Compiled::buffer(&values(to.len(), 99)));
            let expected = on_the_cpu(&[(&map, &x)], |v| ops::max_pool(&v[0], &given))?;
            check(&format!("max {name}"), compiled, &expected, |on| {
                let (y, _) = pool::max(on, on.view(&vx), from, window, to)?;
                Ok(vec![
                    y,
                    pool::max_input(on, on.view(&vx), on.view(&vdy), from, window, to)?,
                ])
            })?;
            let expected = on_the_cpu(&[(&map, &x)], |v| ops::average_pool(&v[0], &given))?;
            check(&format!("average {name}"), compiled, &expected, |on| {
                let y = pool::average(on, on.view(&vx), from, window, to)?;
                Ok(vec![y, pool::average_input(on, on.view(&vdy), from, window, to)?])
            })?;
        }
    }
    for map in MAPS {
        let x = values(map.len(), 1);
        let (vx, vdy) = (Compiled::buffer(&x), Compiled::buffer(&values(map.n * map.c, 99)));
        let expected = on_the_cpu(&[(&shape(map), &x)], |v| ops::global_average_pool(&v[0]))?;
        check(&format!("global {map:?}"), compiled, &expected, |on| {
            let y = pool::global(on, on.view(&vx), map)?;
            Ok(vec![y, pool::global_input(on, on.view(&vdy), map)?])
        })?;
    }
    Ok(())
}

/// Not a number comes through, and a window of −∞ has a winner too.
fn special_values(compiled: &mut Compiled) -> Result<()> {
    let map = Map { n: 1, c: 1, h: 4, w: 5 };
    let mut x = values(map.len(), 1);
    x[7] = f32::NAN;
    for i in [12, 13, 14, 17, 18, 19] {
        x[i] = f32::NEG_INFINITY;
    }
    let vx = Compiled::buffer(&x);
    let act = Act::new(Some(Activation::Relu)).expect("a known activation");
    let expected = on_the_cpu(&[(&shape(map), &x)], |v| ops::activation(&v[0], Activation::Relu))?;
    check("special activation", compiled, &expected[..1], |on| {
        Ok(vec![elementwise::activate(on, on.view(&vx), act, map.len())?])
    })?;
    let window = cpu_pool::Window {
        kernel: [2; 2],
        stride: [1; 2],
        pads: [0; 4],
        ceil: false,
        count_pad: false,
    };
    let to = Map { h: 3, w: 4, ..map };
    let given = Pool {
        kernel: [2; 2],
        stride: [1; 2],
        padding: Padding::Explicit([0; 4]),
        ceil: false,
        count_include_pad: false,
    };
    let expected = on_the_cpu(&[(&shape(map), &x)], |v| ops::max_pool(&v[0], &given))?;
    let vdy = Compiled::buffer(&values(to.len(), 99));
    check("special maximum", compiled, &expected, |on| {
        let (y, _) = pool::max(on, on.view(&vx), map, window, to)?;
        Ok(vec![
            y,
            pool::max_input(on, on.view(&vx), on.view(&vdy), map, window, to)?,
        ])
    })
}

#[test]
fn the_kernels_compute_what_the_cpu_operators_do() -> Result<()> {
    let mut compiled = Compiled::new();
    convolutions(&mut compiled)?;
    channels(&mut compiled)?;
    sites(&mut compiled)?;
    pools(&mut compiled)?;
    special_values(&mut compiled)?;
    let sources = concat!(
        include_str!("../kernels/conv.h"),
        include_str!("../kernels/elementwise.h"),
        include_str!("../kernels/norm.h"),
        include_str!("../kernels/pool.h"),
        include_str!("../kernels/site.h"),
    );
    let declared: BTreeSet<&str> = sources
        .split("KERNEL(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert_eq!(declared, *compiled.launched.borrow(), "every kernel was compared");
    Ok(())
}
