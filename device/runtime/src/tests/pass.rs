//! Intermediate results of a pass: block statistics compared with the runtime's own mean over a map, and activations from
//! which the rest gives the same bits.

use clr_onnx::{Op, Program};

use super::fixtures::{Builder, CHANNELS, Noise, SIZE};
use crate::Intermediates;

#[test]
fn a_pass_returns_mean_and_deviation_of_every_channel_and_activations_to_continue_from() {
    let mut graph = Builder::new(5);
    let wide = graph.conv(CHANNELS, 3 * CHANNELS, [3, 3], 1);
    let first = graph.last();
    let wide = graph.push(wide, &[first]);
    let narrow = graph.conv(3 * CHANNELS, CHANNELS, [1, 1], 1);
    graph.push(narrow, &[wide]);
    let (backbone, executable) = graph.finish(CHANNELS);
    // The same first convolution, followed by the mean of its values and of their squares.
    let first_only = |square: bool| {
        let mut graph = Builder::new(5);
        if square {
            let first = graph.last();
            graph.push(Op::Mul, &[first, first]);
        }
        let last = graph.last();
        let pooled = graph.push(Op::GlobalAveragePool, &[last]);
        graph.push(Op::Flatten, &[pooled]);
        graph.finish_with_features().1
    };
    let image = Noise::new(2).values(3 * SIZE[0] * SIZE[1]);
    let features = |executable: &crate::Executable| executable.features(&image, &executable.frozen_parameters());

    let frozen = executable.frozen_parameters();
    let wanted = Intermediates {
        block_statistics: true,
        prefixes: &[1, 2],
    };
    let pass = executable.pass(&image, &frozen, wanted);
    let (own, statistics) = (pass.features, pass.block_statistics);
    assert_eq!(own, features(&executable));
    for (prefix, step) in pass.prefixes.iter().zip([1, 2]) {
        assert_eq!(prefix.step(), step);
        assert_eq!(executable.features_from_prefix(prefix, &frozen), own);
    }
    // Block outputs: the first convolution, and the last one. The wide one between them is not one.
    assert_eq!(statistics.len(), 2 * (CHANNELS + 10));
    let program = Program::lower(&backbone, SIZE).unwrap();
    assert_eq!(statistics.len(), program.block_statistics());
    let (means, squares) = (features(&first_only(false)), features(&first_only(true)));
    for (channel, (mean, square)) in means.iter().zip(squares).enumerate() {
        let deviation = (square - mean * mean).sqrt();
        assert!((statistics[channel] - mean).abs() < 1e-5);
        assert!(
            (statistics[CHANNELS + channel] - deviation).abs() < 1e-4,
            "channel {channel}"
        );
    }
    let last = &statistics[2 * CHANNELS..][..10];
    assert!(
        last.iter()
            .zip(&own)
            .all(|(mean, feature)| (mean - feature).abs() < 1e-5)
    );
}
