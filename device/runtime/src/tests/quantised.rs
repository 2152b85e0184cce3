//! Quantised backbones: the same function on bytes and on real values, whatever the threads and the adapter.

use std::collections::{BTreeMap, BTreeSet};

use clr_onnx::{Activation, Backbone, Op, Pool, Program, Quantiser, ValueId, image_grid, range_grid};

use super::fixtures::{Builder, CHANNELS, Noise, SIZE, kernel_site, window};
use crate::{Executable, ExecutableOptions, RuntimeError, SiteParameters, Traced};

fn executable(backbone: &Backbone, integer: bool, threads: usize) -> Executable {
    let program = Program::lower(backbone, SIZE).unwrap();
    let options = ExecutableOptions::new(&program)
        .with_integer(integer)
        .with_threads(threads);
    Executable::new(&program, &options).unwrap()
}

/// Returns the quantised backbone, with the ranges of a few images.
fn quantised(backbone: &Backbone) -> Backbone {
    let quantiser = Quantiser::new(backbone, &BTreeSet::new()).unwrap();
    let program = Program::unfused(quantiser.folded(), SIZE).unwrap();
    let float = Executable::new(&program, &ExecutableOptions::new(&program)).unwrap();
    let mut ranges: BTreeMap<ValueId, [f32; 2]> = BTreeMap::new();
    for seed in 0..4 {
        float.observe(&image(seed), &float.frozen_parameters(), |value, values| {
            let range = ranges.entry(value).or_default();
            // Lanes beyond the channels have the size of the others here.
            for &value in values {
                *range = [range[0].min(value), range[1].max(value)];
            }
        });
    }
    let grids = quantiser.places().iter().map(|place| match ranges.get(place) {
        Some(&[low, high]) => range_grid(low, high).unwrap(),
        None => image_grid(backbone.preprocessing()).unwrap(),
    });
    quantiser
        .quantise(&grids.collect::<Vec<_>>(), &BTreeMap::new())
        .unwrap()
}

fn image(seed: u64) -> Vec<f32> {
    Noise::new(seed).values(3 * SIZE[0] * SIZE[1])
}

/// Returns a network with all steps on bytes: a stem, a depthwise convolution, a sum with and one without a convolution,
/// a table, pools, a concatenation with different grids, and one step between them that is computed on real values.
fn network() -> Backbone {
    let mut graph = Builder::new(1);
    let stem = graph.last();
    let stem = graph.push(Op::Activation(Activation::Clip { min: 0.0, max: 1.5 }), &[stem]);
    let depthwise = graph.conv(CHANNELS, CHANNELS, [3, 3], CHANNELS);
    let depthwise = graph.push(depthwise, &[stem]);
    let depthwise = graph.push(Op::Activation(Activation::Relu), &[depthwise]);
    let project = graph.conv(CHANNELS, CHANNELS, [1, 1], 1);
    let project = graph.push(project, &[depthwise]);
    let sum = graph.push(Op::Add, &[project, stem]);
    let sum = graph.push(Op::Activation(Activation::Relu), &[sum]);
    let smooth = graph.conv(CHANNELS, CHANNELS, [3, 3], 2);
    let smooth = graph.push(smooth, &[sum]);
    let smooth = graph.push(Op::Activation(Activation::HardSwish), &[smooth]);
    // A convolution's result that another convolution reads is rounded, so its activation is a table.
    let bare = graph.conv(CHANNELS, CHANNELS, [1, 1], 1);
    let bare = graph.push(bare, &[smooth]);
    let table = graph.push(Op::Activation(Activation::HardSwish), &[bare]);
    let next = graph.conv(CHANNELS, CHANNELS, [1, 1], 1);
    let next = graph.push(next, &[bare]);
    let smooth = graph.push(Op::Add, &[next, table]);
    let both = graph.push(Op::Concat, &[smooth, sum]);
    let more = graph.push(Op::Add, &[both, both]);
    let pooled = graph.push(Op::MaxPool(window(3)), &[more]);
    let mean = Pool {
        stride: [1, 1],
        ..window(2)
    };
    let pooled = graph.push(Op::AveragePool(mean), &[pooled]);
    let last = graph.conv(2 * CHANNELS, 24, [3, 3], 1);
    graph.push(last, &[pooled]);
    graph.finish(24).0
}

/// Returns parameters of all sites in real units: CLR layers at even ones, a scale and a bias at one in three, and the
/// backbone's own elsewhere.
fn adapter(backbone: &Backbone, executable: &Executable) -> Vec<SiteParameters> {
    let mut noise = Noise::new(5);
    let sites = executable
        .frozen_parameters()
        .into_iter()
        .enumerate()
        .map(|(site, frozen)| {
            let channels = backbone.sites()[site].channels;
            let (weights, bias) = kernel_site(&mut noise, channels);
            let own = match site {
                _ if site % 2 == 0 => SiteParameters::kernel(&weights, &bias),
                _ if site % 3 == 0 => SiteParameters::scale(&weights[..channels], &bias),
                _ => return frozen,
            };
            executable.scaled(site, &own).unwrap()
        });
    sites.collect()
}

fn difference(left: &[f32], right: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    norm(&mut left.iter().zip(right).map(|(left, right)| left - right)) / norm(&mut right.iter().copied())
}

#[test]
fn steps_on_bytes_compute_the_function_that_they_compute_on_real_values() {
    let float = network();
    let backbone = quantised(&float);
    let (bytes, real) = (executable(&backbone, true, 1), executable(&backbone, false, 1));
    for adapted in [false, true] {
        let sites = |executable: &Executable| {
            if adapted {
                adapter(&backbone, executable)
            } else {
                executable.frozen_parameters()
            }
        };
        for seed in 0..4 {
            let got = bytes.features(&image(seed), &sites(&bytes));
            let expected = real.features(&image(seed), &sites(&real));
            // A sum that is halfway between two bytes may become either.
            let error = difference(&got, &expected);
            assert!(error < 0.01, "image {seed}, adapted: {adapted}: {error}");
        }
    }
}

#[test]
fn a_quantised_backbone_is_close_to_the_float_one() {
    let float = network();
    let backbone = quantised(&float);
    let (bytes, original) = (executable(&backbone, true, 1), executable(&float, false, 1));
    for seed in 0..4 {
        let got = bytes.features(&image(seed), &bytes.frozen_parameters());
        let expected = original.features(&image(seed), &original.frozen_parameters());
        let error = difference(&got, &expected);
        assert!(error < 0.05, "image {seed}: {error}");
    }
}

#[test]
fn all_convolutions_and_sums_of_a_quantised_network_compute_on_bytes() {
    let backbone = quantised(&network());
    let bytes = executable(&backbone, true, 1);
    let (mut real, mut on_bytes) = (Vec::new(), 0);
    bytes.trace(&image(1), &bytes.frozen_parameters(), |value, traced| match traced {
        Traced::Real(_) => real.push(backbone.node(value).unwrap().name.clone()),
        Traced::Bytes(..) | Traced::PixelBytes(..) => on_bytes += 1,
    });
    // The smooth activation, the pooled features and their vector.
    assert_eq!((real.len(), on_bytes), (3, 13), "{real:?}");
}

#[test]
fn results_on_bytes_do_not_depend_on_threads_and_equal_the_sum_of_a_prefix_and_the_rest() {
    let backbone = quantised(&network());
    let one = executable(&backbone, true, 1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let three = executable(&backbone, true, 3);
    for seed in 0..3 {
        let expected = one.features(&image(seed), &adapter(&backbone, &one));
        let got = pool.install(|| three.features(&image(seed), &adapter(&backbone, &three)));
        assert_eq!(got, expected);
        let sites = adapter(&backbone, &one);
        for first in 0..=one.step_count() {
            let prefix = one.prefix(&image(seed), &sites, first);
            assert_eq!(one.features_from_prefix(&prefix, &sites), expected, "from step {first}");
        }
    }
}

#[test]
fn block_statistics_of_bytes_are_those_of_their_real_values() {
    let backbone = quantised(&network());
    let wanted = crate::Intermediates {
        block_statistics: true,
        ..Default::default()
    };
    let [bytes, real] = [true, false].map(|integer| {
        let executable = executable(&backbone, integer, 1);
        executable
            .pass(&image(2), &executable.frozen_parameters(), wanted)
            .block_statistics
    });
    assert!(
        !bytes.is_empty() && difference(&bytes, &real) < 0.01,
        "{}",
        difference(&bytes, &real)
    );
}

#[test]
#[should_panic(expected = "no backward pass")]
fn an_executable_on_bytes_does_not_train() {
    let backbone = quantised(&network());
    let bytes = executable(&backbone, true, 1);
    let sites = bytes.frozen_parameters();
    let prefix = bytes.prefix(&image(1), &sites, 0);
    drop(bytes.forward(&[&prefix], &sites, &[0]));
}

#[test]
fn parameters_whose_results_could_leave_the_range_are_refused() {
    let backbone = quantised(&network());
    let executable = executable(&backbone, true, 1);
    let channels = backbone.sites()[0].channels;
    let mut weights = vec![1.0; channels];
    let zero = vec![0.0; channels];
    for value in [f32::NAN, f32::INFINITY, 1e38] {
        weights[3] = value;
        let refused = executable.scaled(0, &SiteParameters::scale(&weights, &zero));
        let name = backbone.sites()[0].name.clone();
        assert_eq!(
            refused.err(),
            Some(RuntimeError::Range { site: name, channel: 3 }),
            "{value}"
        );
    }
    weights[3] = 1e20;
    assert!(executable.scaled(0, &SiteParameters::scale(&weights, &zero)).is_ok());
}
