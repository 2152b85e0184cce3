//! Batch statistics: forward and backward passes compared with finite differences.

use clr_onnx::{Activation, Op};

use super::fixtures::{Builder, CHANNELS, Noise, SIZE, kernel_site};
use crate::{BatchGradient, BatchSite, Executable, FoldedNorm, SiteParameters};

const IMAGES: usize = 3;
const EPSILON: f32 = 1e-3;

/// Returns a network: convolution, norm, smooth activation; convolution, norm, shortcut, clamp; convolution, mean,
/// clamp.
fn network() -> Executable {
    let mut graph = Builder::new(21);
    let norm = graph.norm(CHANNELS);
    let first = graph.last();
    let first = graph.push(norm, &[first]);
    let first = graph.push(Op::Activation(Activation::Silu), &[first]);
    let conv = graph.conv(CHANNELS, CHANNELS, [3, 3], 1);
    let conv = graph.push(conv, &[first]);
    let norm = graph.norm(CHANNELS);
    let norm = graph.push(norm, &[conv]);
    let sum = graph.push(Op::Add, &[norm, first]);
    let sum = graph.push(Op::Activation(Activation::Relu), &[sum]);
    let conv = graph.conv(CHANNELS, 10, [1, 1], 1);
    let conv = graph.push(conv, &[sum]);
    let pooled = graph.push(Op::GlobalAveragePool, &[conv]);
    let features = graph.push(Op::Flatten, &[pooled]);
    // The bounds are far from the features, because finite differences across a kink are not meaningful.
    graph.push(Op::Activation(Activation::Clip { min: -50.0, max: 50.0 }), &[features]);
    graph.finish_with_features().1
}

/// Multiplier, γ and β of the two normalised sites.
#[derive(Clone)]
struct Task {
    kernels: [Vec<f32>; 2],
    scales: [Vec<f32>; 2],
    biases: [Vec<f32>; 2],
}

impl Task {
    fn new() -> Self {
        let mut noise = Noise::new(4);
        let mut one = || {
            let scale: Vec<f32> = noise.values(CHANNELS).iter().map(|value| 1.0 + 0.3 * value).collect();
            (kernel_site(&mut noise, CHANNELS).0, scale, noise.values(CHANNELS))
        };
        let (a, b) = (one(), one());
        Self {
            kernels: [a.0, b.0],
            scales: [a.1, b.1],
            biases: [a.2, b.2],
        }
    }

    fn sites(&self, executable: &Executable) -> Vec<BatchSite> {
        let normalised = |kernel: &Vec<f32>| BatchSite::Normalised {
            multiplier: Some(SiteParameters::kernel(kernel, &[0.0; CHANNELS])),
            trained: true,
        };
        let mut sites: Vec<BatchSite> = self.kernels.iter().map(normalised).collect();
        let last = executable.frozen_parameters().pop().unwrap();
        sites.push(BatchSite::Fixed(last.with_gradient(true)));
        sites
    }

    fn norm(&self, site: usize, statistics: &crate::ChannelStatistics) -> (FoldedNorm, Vec<f32>) {
        let inverse: Vec<f32> = statistics
            .variance
            .iter()
            .map(|variance| 1.0 / (variance + EPSILON).sqrt())
            .collect();
        let scale: Vec<f32> = self.scales[site].iter().zip(&inverse).map(|(a, b)| a * b).collect();
        let bias = (0..CHANNELS)
            .map(|c| self.biases[site][c] - statistics.mean[c] * scale[c])
            .collect();
        (FoldedNorm { scale, bias }, inverse)
    }

    fn loss(&self, executable: &Executable, images: &[&[f32]]) -> f64 {
        let tape = executable.forward_batch(images, &self.sites(executable), false, &mut |site, statistics| {
            self.norm(site, statistics)
        });
        let features = tape.features.iter().enumerate();
        features.map(|(image, features)| dot(features, &weights(image))).sum()
    }
}

fn weights(image: usize) -> Vec<f32> {
    (0..10).map(|at| ((image * 10 + at) as f32).cos()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn gradients_flow_through_the_statistics_of_the_batch() {
    let (executable, task) = (network(), Task::new());
    let mut noise = Noise::new(8);
    let images: Vec<Vec<f32>> = (0..IMAGES).map(|_| noise.values(3 * SIZE[0] * SIZE[1])).collect();
    let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
    let sites = task.sites(&executable);
    let tape = executable.forward_batch(&images, &sites, true, &mut |site, statistics| {
        task.norm(site, statistics)
    });
    let gradients: Vec<Vec<f32>> = (0..IMAGES).map(weights).collect();
    let gradients = executable.backward_batch(tape, &gradients, &sites);
    assert!(matches!(gradients[2], Some(BatchGradient::Fixed(..))));
    for (site, gradient) in gradients.iter().enumerate().take(2) {
        let Some(BatchGradient::Normalised {
            multiplier: Some(kernel),
            scale,
            bias,
        }) = gradient
        else {
            panic!("site {site} has no gradient")
        };
        let mut check = |part: &str, gradient: &[f32], change: &dyn Fn(&mut Task, &[f32], f32)| {
            let direction = noise.values(gradient.len());
            let at = |step: f32| {
                let mut moved = task.clone();
                change(&mut moved, &direction, step);
                moved.loss(&executable, &images)
            };
            let expected = dot(gradient, &direction);
            let tried = [3e-2_f32, 1e-2, 3e-3].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
            let off = |tried: f64| (tried - expected).abs() / (tried.abs() + expected.abs() + 1e-3);
            assert!(
                tried.iter().any(|tried| off(*tried) < 2e-2),
                "site {site}, {part}: gradient {expected}, differences {tried:?}"
            );
        };
        let add = |values: &mut [f32], direction: &[f32], step: f32| {
            values
                .iter_mut()
                .zip(direction)
                .for_each(|(value, direction)| *value += step * direction);
        };
        check("kernel", kernel, &|task, direction, step| {
            add(&mut task.kernels[site], direction, step);
        });
        check("scale", scale, &|task, direction, step| {
            add(&mut task.scales[site], direction, step);
        });
        check("bias", bias, &|task, direction, step| {
            add(&mut task.biases[site], direction, step);
        });
    }
}

#[test]
fn the_results_of_a_batch_do_not_depend_on_the_number_of_threads() {
    let (executable, task) = (network(), Task::new());
    let mut noise = Noise::new(8);
    let images: Vec<Vec<f32>> = (0..IMAGES).map(|_| noise.values(3 * SIZE[0] * SIZE[1])).collect();
    let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let sites = task.sites(&executable);
            let tape = executable.forward_batch(&images, &sites, true, &mut |site, statistics| {
                task.norm(site, statistics)
            });
            let features = tape.features.clone();
            let gradients: Vec<Vec<f32>> = (0..IMAGES).map(weights).collect();
            let gradients = executable.backward_batch(tape, &gradients, &sites);
            (features, format!("{gradients:?}"))
        })
    };
    assert_eq!(run(1), run(3));
}
