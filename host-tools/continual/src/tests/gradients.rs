//! Operators and their gradients against compositions of candle's own operations, which share no code with them.

use candle_core::{Device, Result, Tensor, Var};
use clr_onnx::{Activation, Padding};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use clr_training::ops::{self, ConvOptions};

use crate::ops::{activation, add_bias, batch_norm, conv, scale_planes};

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.random_range(-1.0..1.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// Asserts that two tensors are equal within `1e-5` of the largest value.
#[track_caller]
fn assert_close(what: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let values = |tensor: &Tensor| {
        tensor
            .flatten_all()
            .and_then(|flat| flat.to_vec1::<f32>())
            .expect("values")
    };
    let (got, expected) = (values(got), values(expected));
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let apart = got
        .iter()
        .zip(&expected)
        .fold(0.0_f32, |apart, (a, b)| apart.max((a - b).abs()));
    assert!(
        apart <= 1e-5 * largest.max(1.0),
        "{what}: {apart} apart, largest value {largest}"
    );
}

/// Asserts that two functions of the same variables have the same value and the same gradients.
fn assert_same(variables: &[Var], ours: impl Fn() -> Result<Tensor>, reference: impl Fn() -> Result<Tensor>) {
    let (ours, reference) = (ours().expect("ours"), reference().expect("the reference"));
    assert_close("value", &ours, &reference);
    let weights = random(ours.dims(), 99);
    let gradients = |y: &Tensor| {
        let loss = (y * &weights).and_then(|product| product.sum_all()).expect("a loss");
        loss.backward().expect("gradients")
    };
    let (ours, reference) = (gradients(&ours), gradients(&reference));
    for (index, variable) in variables.iter().enumerate() {
        let [got, expected] = [&ours, &reference].map(|store| store.get(variable).expect("a gradient"));
        assert_close(&format!("gradient {index}"), got, expected);
    }
}

/// Asserts that a convolution has the values and gradients of candle's operations.
fn assert_convolution(x: &Tensor, w: &Tensor, options: ConvOptions) {
    let [x, w] = [x, w].map(|tensor| Var::from_tensor(tensor).expect("a variable"));
    assert_same(
        &[x.clone(), w.clone()],
        || conv(&x, &w, options),
        || ops::conv(&x, &w, options),
    );
}

/// Options of a convolution whose output has the size of its input.
fn same_size(groups: usize) -> ConvOptions {
    ConvOptions {
        stride: [1; 2],
        dilation: [1; 2],
        groups,
        padding: Padding::SameUpper,
    }
}

#[test]
fn convolutions_have_the_gradients_of_a_composition() {
    // Images, input and output channels, groups, kernel, stride, dilation, size, padding.
    let cases = [
        (2, 3, 5, 1, [3, 3], 1, 1, [7, 9], Padding::Explicit([1; 4])),
        (3, 4, 6, 1, [1, 1], 1, 1, [5, 5], Padding::Explicit([0; 4])),
        (2, 4, 6, 1, [1, 1], 2, 1, [6, 5], Padding::Explicit([0; 4])),
        (2, 3, 4, 1, [3, 3], 2, 1, [8, 8], Padding::SameUpper),
        (2, 3, 4, 1, [3, 3], 2, 1, [8, 8], Padding::SameLower),
        (2, 3, 4, 1, [7, 7], 2, 1, [16, 16], Padding::Explicit([3; 4])),
        (2, 4, 6, 2, [3, 3], 1, 1, [6, 7], Padding::Explicit([1; 4])),
        (2, 6, 6, 6, [3, 3], 1, 1, [9, 11], Padding::Explicit([1; 4])),
        (2, 6, 6, 6, [5, 5], 2, 1, [12, 12], Padding::SameUpper),
        (2, 4, 8, 4, [3, 3], 1, 1, [6, 6], Padding::Explicit([1; 4])),
        (2, 3, 4, 1, [3, 3], 1, 2, [9, 9], Padding::Explicit([2; 4])),
        (1, 5, 5, 5, [3, 3], 1, 2, [4, 3], Padding::Explicit([2; 4])),
        (2, 2, 3, 1, [3, 3], 3, 1, [2, 2], Padding::Explicit([2, 1, 1, 3])),
        // Few channels per group: other numbers of outputs, strides without a position of the kernel, kernels larger than
        // the input, padding on one side.
        (3, 24, 24, 3, [3, 3], 1, 1, [5, 6], Padding::Explicit([1; 4])),
        (2, 32, 16, 2, [1, 1], 1, 1, [4, 4], Padding::Explicit([0; 4])),
        (2, 6, 3, 3, [3, 3], 2, 1, [7, 8], Padding::Explicit([0, 1, 1, 0])),
        (2, 4, 4, 4, [2, 2], 3, 1, [9, 8], Padding::Explicit([0; 4])),
        (2, 4, 8, 2, [1, 1], 3, 1, [7, 7], Padding::Explicit([0; 4])),
        (2, 3, 3, 3, [5, 5], 1, 1, [3, 2], Padding::Explicit([2; 4])),
        (2, 3, 3, 3, [5, 5], 2, 2, [6, 9], Padding::Explicit([4, 3, 4, 5])),
    ];
    for (images, inputs, outputs, groups, kernel, stride, dilation, size, padding) in cases {
        let options = ConvOptions {
            stride: [stride; 2],
            dilation: [dilation; 2],
            groups,
            padding,
        };
        let x = random(&[images, inputs, size[0], size[1]], 1);
        assert_convolution(
            &x,
            &random(&[outputs, inputs / groups, kernel[0], kernel[1]], 2),
            options,
        );
    }
}

#[test]
fn large_maps_are_divided_into_tiles_without_a_difference() {
    for (images, inputs, outputs, kernel, size) in [(3, 64, 8, 3, 60), (40, 128, 16, 1, 9), (20, 256, 8, 3, 8)] {
        let w = (random(&[outputs, inputs, kernel, kernel], 2) * 0.1).expect("w");
        assert_convolution(&random(&[images, inputs, size, size], 1), &w, same_size(1));
    }
}

#[test]
fn blocks_of_small_images_are_added_without_a_difference() {
    // More images than one block of a weight's gradient, and a rest.
    assert_convolution(&random(&[37, 16, 7, 7], 1), &random(&[16, 8, 3, 3], 2), same_size(2));
}

#[test]
fn values_per_plane_have_the_gradients_of_a_composition() {
    let x = Var::from_tensor(&random(&[3, 5, 4, 7], 1)).expect("x");
    let bias = Var::from_tensor(&random(&[5], 2)).expect("a bias");
    assert_same(
        &[x.clone(), bias.clone()],
        || add_bias(&x, &bias),
        || x.broadcast_add(&bias.reshape((1, 5, 1, 1))?),
    );
    let factor = Var::from_tensor(&random(&[3, 5, 1, 1], 3)).expect("factors");
    assert_same(
        &[x.clone(), factor.clone()],
        || scale_planes(&x, &factor),
        || x.broadcast_mul(&factor),
    );
    let error = add_bias(&x, &factor.flatten_all().expect("a vector")).expect_err("15 values");
    assert!(error.to_string().contains("expected 5 values"), "{error}");
}

#[test]
fn norms_have_the_gradients_of_a_composition() {
    for (images, channels, size) in [(4, 3, 5), (2, 7, 4), (16, 2, 1)] {
        let x = Var::from_tensor(&random(&[images, channels, size, size], 1)).expect("x");
        let gamma = Var::from_tensor(&random(&[channels], 2)).expect("gamma");
        let beta = Var::from_tensor(&random(&[channels], 3)).expect("beta");
        let (_, of_batch) = batch_norm(&x, &gamma, &beta, 1e-3, None).expect("statistics");
        for fixed in [None, Some(&of_batch)] {
            let composed = || {
                let per_channel = |vector: &Tensor| vector.reshape((1, channels, 1, 1));
                let [mean, variance] = if let Some(fixed) = fixed {
                    [&fixed.mean, &fixed.variance].map(|values| {
                        Tensor::from_slice(values, (1, channels, 1, 1), &Device::Cpu).expect("statistics")
                    })
                } else {
                    let mean = x.mean_keepdim((0, 2, 3))?;
                    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
                    [mean, variance]
                };
                let normal = x.broadcast_sub(&mean)?.broadcast_div(&(variance + 1e-3)?.sqrt()?)?;
                normal
                    .broadcast_mul(&per_channel(&gamma)?)?
                    .broadcast_add(&per_channel(&beta)?)
            };
            assert_same(
                &[x.clone(), gamma.clone(), beta.clone()],
                || Ok(batch_norm(&x, &gamma, &beta, 1e-3, fixed)?.0),
                composed,
            );
        }
    }
}

#[test]
fn a_norm_returns_mean_and_biased_variance() {
    let x = Tensor::new(&[1.0_f32, 2.0, 3.0, 6.0], &Device::Cpu)
        .and_then(|x| x.reshape((2, 1, 1, 2)))
        .expect("x");
    let [one, zero] = [1.0_f32, 0.0].map(|value| Tensor::new(&[value], &Device::Cpu).expect("a vector"));
    let (y, statistics) = batch_norm(&x, &one, &zero, 0.0, None).expect("a norm");
    assert_eq!(
        (statistics.mean, statistics.variance, statistics.count),
        (vec![3.0], vec![3.5], 4)
    );
    let expected = [-2.0_f32, -1.0, 0.0, 3.0].map(|value| value / 3.5_f32.sqrt());
    let expected = Tensor::new(&expected, &Device::Cpu)
        .and_then(|y| y.reshape((2, 1, 1, 2)))
        .expect("y");
    assert_close("normal values", &y, &expected);
}

#[test]
fn statistics_of_one_value_are_refused() {
    let x = random(&[1, 2, 1, 1], 1);
    let vector = random(&[2], 2);
    let error = batch_norm(&x, &vector, &vector, 1e-5, None).expect_err("one value");
    assert!(error.to_string().contains("at least two values"), "{error}");
}

#[test]
fn clamps_have_the_gradients_of_a_composition() {
    for kind in [
        Activation::Relu,
        Activation::Clip { min: -0.25, max: 0.5 },
        Activation::Clip {
            min: 0.0,
            max: f32::INFINITY,
        },
    ] {
        let x = Var::from_tensor(&random(&[3, 50, 21, 11], 1)).expect("x");
        assert_same(
            std::slice::from_ref(&x),
            || activation(&x, kind),
            || ops::activation(&x, kind),
        );
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            let x = Var::from_tensor(&random(&[16, 48, 24, 24], 1)).expect("x");
            let w = Var::from_tensor(&random(&[64, 48, 3, 3], 2)).expect("w");
            let depthwise = Var::from_tensor(&random(&[64, 1, 3, 3], 3)).expect("depthwise");
            let vectors = [4, 5].map(|seed| Var::from_tensor(&random(&[64], seed)).expect("a vector"));
            let options = same_size(1);
            let y = conv(&x, &w, options).expect("a convolution");
            let (y, _) = batch_norm(&y, &vectors[0], &vectors[1], 1e-5, None).expect("a norm");
            let y = activation(&y, Activation::Relu).expect("an activation");
            let y = conv(&y, &depthwise, ConvOptions { groups: 64, ..options }).expect("a depthwise convolution");
            let gradients = y
                .sqr()
                .and_then(|y| y.sum_all())
                .and_then(|loss| loss.backward())
                .expect("gradients");
            [&x, &w, &depthwise, &vectors[0], &vectors[1]].map(|variable| {
                let gradient = gradients.get(variable).expect("a gradient");
                let values = gradient
                    .flatten_all()
                    .and_then(|flat| flat.to_vec1::<f32>())
                    .expect("values");
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            })
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(7));
}
