//! Numeric proof that folding preserves the function, borders included.

use clr_adapters::{
    SiteWeights,
    folding::{FoldError, Folded, Norm, fold_kernel, fold_scale},
};

use crate::sample::Random;

const CHANNELS: usize = 7;
const SIZE: usize = 6;
const PIXELS: usize = SIZE * SIZE;
const SEEDS: u64 = if cfg!(miri) { 2 } else { 20 };

/// Computes a depthwise 3×3 convolution of `[C, H, W]`, stride 1, zero padding 1, in f64, then adds `bias`.
fn depthwise(input: &[f64], kernel: &[f32], bias: &[f32]) -> Vec<f64> {
    let mut output = Vec::new();
    for channel in 0..CHANNELS {
        let plane = &input[channel * PIXELS..][..PIXELS];
        for (y, x) in (0..PIXELS).map(|pixel| (pixel / SIZE, pixel % SIZE)) {
            let mut sum = f64::from(bias[channel]);
            for (dy, dx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                let (row, column) = ((y + dy).wrapping_sub(1), (x + dx).wrapping_sub(1));
                if row < SIZE && column < SIZE {
                    sum += plane[row * SIZE + column] * f64::from(kernel[channel * 9 + dy * 3 + dx]);
                }
            }
            output.push(sum);
        }
    }
    output
}

fn per_channel(input: &[f64], f: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    input
        .iter()
        .enumerate()
        .map(|(index, &value)| f(index / PIXELS, value))
        .collect()
}

fn normalise(input: &[f64], norm: &Norm<'_>) -> Vec<f64> {
    per_channel(input, |c, x| {
        let deviation = (f64::from(norm.variance[c]) + f64::from(norm.epsilon)).sqrt();
        (x - f64::from(norm.mean[c])) / deviation * f64::from(norm.scale[c]) + f64::from(norm.bias[c])
    })
}

/// Returns the largest difference, relative to the largest value.
fn difference(own: &[f64], other: &[f64]) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, value| most.max(value.abs()));
    largest(&mut own.iter().zip(other).map(|(a, b)| a - b)) / largest(&mut other.iter().copied())
}

struct Case {
    /// The bias-free convolution's output.
    features: Vec<f64>,
    kernel: Vec<f32>,
    conv_bias: Vec<f32>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            features: random
                .normals(CHANNELS * PIXELS, 2.0)
                .into_iter()
                .map(f64::from)
                .collect(),
            kernel: random.normals(CHANNELS * 9, 0.5),
            conv_bias: random.normals(CHANNELS, 1.0),
            scale: random.normals(CHANNELS, 1.0),
            bias: random.normals(CHANNELS, 1.0),
            mean: random.normals(CHANNELS, 1.0),
            variance: random
                .normals(CHANNELS, 1.0)
                .into_iter()
                .map(|value| value * value)
                .collect(),
        }
    }

    fn norm(&self) -> Norm<'_> {
        let Self {
            scale,
            bias,
            mean,
            variance,
            ..
        } = self;
        Norm {
            scale,
            bias,
            mean,
            variance,
            epsilon: 1e-3,
        }
    }
}

fn run(features: &[f64], folded: &Folded) -> Vec<f64> {
    match &folded.weights {
        SiteWeights::Kernel(kernel) => depthwise(features, kernel, &folded.bias),
        SiteWeights::Scale(scale) => per_channel(features, |c, x| x * f64::from(scale[c]) + f64::from(folded.bias[c])),
    }
}

#[test]
fn a_folded_kernel_equals_the_kernel_followed_by_the_norm() {
    for seed in 0..SEEDS {
        let case = Case::new(seed);
        let reprogrammed = depthwise(&case.features, &case.kernel, &[0.0; CHANNELS]);
        let expected = normalise(&reprogrammed, &case.norm());
        let folded = fold_kernel(&case.kernel, Some(&case.norm()), None).unwrap();
        let error = difference(&run(&case.features, &folded), &expected);
        assert!(error < 1e-5, "seed {seed}: {error}");
    }
}

#[test]
fn a_convolution_bias_moves_after_the_reprogramming_layer() {
    for seed in 0..SEEDS {
        let case = Case::new(seed);
        let reprogrammed = depthwise(&case.features, &case.kernel, &case.conv_bias);
        let alone = fold_kernel(&case.kernel, None, Some(&case.conv_bias)).unwrap();
        assert_eq!(alone.weights.values(), case.kernel);
        assert!(difference(&run(&case.features, &alone), &reprogrammed) < 1e-5);

        let expected = normalise(&reprogrammed, &case.norm());
        let folded = fold_kernel(&case.kernel, Some(&case.norm()), Some(&case.conv_bias)).unwrap();
        assert!(
            difference(&run(&case.features, &folded), &expected) < 1e-5,
            "seed {seed}"
        );
    }
}

/// If the bias is part of the feature map, the zero padding is a step at the border, and the kernel applies to it too.
/// No `b'` can compensate for that. Away from the border, `b' + c · ΣK` does; the test checks both.
#[test]
fn a_bias_added_before_the_padding_is_a_different_function() {
    let case = Case::new(3);
    let biased = per_channel(&case.features, |c, x| x + f64::from(case.conv_bias[c]));
    let before = depthwise(&biased, &case.kernel, &[0.0; CHANNELS]);
    let sums: Vec<f32> = (0..CHANNELS)
        .map(|c| case.conv_bias[c] * case.kernel[9 * c..][..9].iter().sum::<f32>())
        .collect();
    let behind = depthwise(&case.features, &case.kernel, &sums);
    let inner = |values: &[f64]| -> Vec<f64> {
        let inside = |pixel: usize| (1..SIZE - 1).contains(&(pixel / SIZE)) && (1..SIZE - 1).contains(&(pixel % SIZE));
        values
            .iter()
            .enumerate()
            .filter(|(index, _)| inside(index % PIXELS))
            .map(|(_, &value)| value)
            .collect()
    };
    assert!(difference(&inner(&behind), &inner(&before)) < 1e-5);
    assert!(difference(&behind, &before) > 0.05);
}

#[test]
fn a_folded_scale_equals_the_scale_followed_by_the_norm() {
    for seed in 0..SEEDS {
        let case = Case::new(seed);
        let own = &case.kernel[..CHANNELS];
        let scaled = per_channel(&case.features, |c, x| {
            x * f64::from(own[c]) + f64::from(case.conv_bias[c])
        });
        let folded = fold_scale(own, Some(&case.norm()), Some(&case.conv_bias)).unwrap();
        assert!(difference(&run(&case.features, &folded), &normalise(&scaled, &case.norm())) < 1e-5);
    }
}

#[test]
fn an_identity_kernel_without_norm_is_unchanged() {
    let mut identity = vec![0.0; 9 * CHANNELS];
    identity.iter_mut().skip(4).step_by(9).for_each(|centre| *centre = 1.0);
    let folded = fold_kernel(&identity, None, None).unwrap();
    assert_eq!(
        folded,
        Folded {
            weights: SiteWeights::Kernel(identity),
            bias: vec![0.0; CHANNELS]
        }
    );
}

#[test]
fn folding_errors_name_the_fault() {
    let mut case = Case::new(0);
    let length = fold_kernel(&case.kernel[..8], None, None).unwrap_err();
    assert_eq!(
        length,
        FoldError::Length {
            what: "kernel",
            expected: 0,
            got: 8
        }
    );
    let length = fold_scale(&case.kernel[..3], Some(&case.norm()), None).unwrap_err();
    assert_eq!(
        length,
        FoldError::Length {
            what: "norm scale",
            expected: 3,
            got: CHANNELS
        }
    );
    case.variance[2] = -0.5;
    let variance = fold_kernel(&case.kernel, Some(&case.norm()), None).unwrap_err();
    assert!(matches!(variance, FoldError::Variance { channel: 2, .. }));
    case.variance[2] = f32::NAN;
    assert!(matches!(
        fold_kernel(&case.kernel, Some(&case.norm()), None),
        Err(FoldError::Variance { .. })
    ));
    case.variance[2] = 1.0;
    case.kernel[20] = f32::INFINITY;
    let weight = fold_kernel(&case.kernel, Some(&case.norm()), None).unwrap_err();
    assert_eq!(
        weight,
        FoldError::NotFinite {
            what: "weight",
            channel: 2
        }
    );
}
