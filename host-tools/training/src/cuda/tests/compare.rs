//! Comparison of the kernels with the CPU operators.

use super::compiled::{Buffer, Compiled};
use crate::check::value_and_gradients;
pub(super) use crate::check::values;
use crate::sizes::Map;
use candle_core::{Device, Result, Tensor, Var};
use clr_onnx::Activation;

const LIMIT: f32 = 1e-4;

pub(super) const ACTIVATIONS: [Option<Activation>; 8] = [
    None,
    Some(Activation::Relu),
    Some(Activation::Clip { min: -0.5, max: 0.75 }),
    Some(Activation::LeakyRelu { alpha: 0.1 }),
    Some(Activation::Sigmoid),
    Some(Activation::HardSigmoid { alpha: 0.4, beta: 0.5 }),
    Some(Activation::HardSwish),
    Some(Activation::Silu),
];

/// Sizes with single pixels, with odd sides, and with more values than a block has threads.
pub(super) const MAPS: [Map; 4] = [
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

pub(super) fn shape(map: Map) -> [usize; 4] {
    [map.n, map.c, map.h, map.w]
}

/// Returns the CPU operator's result and gradients, in the form of [`value_and_gradients`].
pub(super) fn on_the_cpu(
    arguments: &[(&[usize], &[f32])],
    run: impl FnOnce(&[Var]) -> Result<Tensor>,
) -> Result<Vec<Vec<f32>>> {
    value_and_gradients(arguments, &Device::Cpu, run)
}

/// Runs `kernels` forwards and backwards with both orders of the threads, and compares each result with `expected`.
pub(super) fn check(
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
        // With one value per channel, a normalised gradient is a difference of equal numbers.
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
