//! Tests of recomputed segments and of the memory estimate.

use clr_onnx::{Activation, Op};

use super::fixtures::{Builder, CHANNELS, Noise, SIZE, sites};
use crate::Executable;

/// Returns a chain of residual blocks with an attention gate.
fn network() -> (clr_onnx::Backbone, Executable) {
    let mut graph = Builder::new(9);
    for _ in 0..4 {
        let shortcut = graph.last();
        let conv = graph.conv(CHANNELS, CHANNELS, [3, 3], 1);
        let conv = graph.push(conv, &[shortcut]);
        let act = graph.push(Op::Activation(Activation::Silu), &[conv]);
        let pooled = graph.push(Op::GlobalAveragePool, &[act]);
        let gate = graph.push(Op::Activation(Activation::Sigmoid), &[pooled]);
        let gated = graph.push(Op::Mul, &[act, gate]);
        let sum = graph.push(Op::Add, &[gated, shortcut]);
        graph.push(Op::Activation(Activation::Relu), &[sum]);
    }
    graph.finish(CHANNELS)
}

#[test]
fn recomputed_segments_change_no_bit_and_take_the_estimated_memory() {
    for trained in [vec![0, 2, 4], vec![3, 5]] {
        let mut gradients = Vec::new();
        let mut estimates = Vec::new();
        for count in [1, 2, 3] {
            // A new executable, because buffers left by an earlier run would be counted.
            let (backbone, executable) = network();
            let sites = sites(&backbone, &executable, &trained, &mut Noise::new(1));
            let first = executable.first_trained(&sites);
            let segments = executable.segments(first, count);
            let images = executable.images_together(&segments);
            let estimate = executable.footprint(&sites, &segments, images);
            assert_eq!(executable.packed_bytes(), [0, 0, 0], "an estimate packs nothing");
            let image = Noise::new(2).values(3 * SIZE[0] * SIZE[1]);
            let prefix = executable.prefix(&image, &sites, first);
            assert_eq!(prefix.bytes(), estimate.start);
            let tape = executable.forward(&vec![&prefix; images], &sites, &segments);
            let (places, length) = Executable::places(&sites);
            let wanted = vec![vec![1.0; 10]; images];
            let gradient = executable.backward(tape, &wanted, &sites, &places, length);
            assert_eq!(
                executable.peak_bytes(),
                estimate.values,
                "{trained:?} in {count} segments"
            );
            assert!(executable.packed_bytes()[2] <= estimate.scratch);
            gradients.push(gradient[0].clone());
            estimates.push(estimate.values);
        }
        assert_eq!(gradients[0], gradients[1]);
        assert_eq!(gradients[0], gradients[2]);
        let [all, two, three] = estimates[..] else {
            unreachable!()
        };
        assert!(two < all && three < all, "{estimates:?}");
    }
}

#[test]
fn a_prefix_leads_to_the_features_of_the_image_bit_for_bit() {
    let (backbone, executable) = network();
    let image = Noise::new(2).values(3 * SIZE[0] * SIZE[1]);
    for trained in [vec![0], vec![2], vec![5], vec![]] {
        let sites = sites(&backbone, &executable, &trained, &mut Noise::new(1));
        let prefix = executable.prefix(&image, &sites, executable.first_trained(&sites));
        assert_eq!(
            executable.features_from_prefix(&prefix, &sites),
            executable.features(&image, &sites)
        );
    }
}

#[test]
fn images_that_run_together_have_the_gradients_of_each_alone() {
    let (backbone, executable) = network();
    let sites = sites(&backbone, &executable, &[1, 4], &mut Noise::new(1));
    let segments = executable.segments(executable.first_trained(&sites), 2);
    let (places, length) = Executable::places(&sites);
    let prefixes: Vec<_> = (0..3)
        .map(|seed| {
            let image = Noise::new(seed).values(3 * SIZE[0] * SIZE[1]);
            executable.prefix(&image, &sites, segments[0])
        })
        .collect();
    let wanted: Vec<Vec<f32>> = (0..3).map(|seed| Noise::new(10 + seed).values(10)).collect();
    let run = |images: std::ops::Range<usize>| {
        let prefixes: Vec<_> = prefixes[images.clone()].iter().collect();
        let tape = executable.forward(&prefixes, &sites, &segments);
        let features = tape.features().to_vec();
        let gradients = executable.backward(tape, &wanted[images], &sites, &places, length);
        (features, gradients)
    };
    let (features, gradients) = run(0..3);
    for image in 0..3 {
        let alone = run(image..image + 1);
        assert_eq!((&features[image], &gradients[image]), (&alone.0[0], &alone.1[0]));
    }
}
