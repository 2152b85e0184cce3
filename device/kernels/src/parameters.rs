//! Per-channel parameters of an epilogue: conversion between rows and blocks of sixteen channels.

use super::simd::LANES;

/// Packs `weights` `[C][taps]` and `bias` `[C]` as `[taps][16]` and bias `[16]` per block. With nine taps these are a
/// CLR layer's parameters, with one tap scale and bias. Lanes beyond the channels are zero.
pub fn pack_parameters(weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let taps = weights.len() / bias.len().max(1);
    assert_eq!(weights.len(), bias.len() * taps);
    let block = (taps + 1) * LANES;
    let mut blocks = vec![0.0; bias.len().div_ceil(LANES) * block];
    for (channel, (weights, bias)) in weights.chunks_exact(taps.max(1)).zip(bias).enumerate() {
        let lanes = &mut blocks[channel / LANES * block + channel % LANES..];
        for (tap, value) in weights.iter().chain([bias]).enumerate() {
            lanes[tap * LANES] = *value;
        }
    }
    blocks
}

/// Returns `weights` and `bias` for this number of channels, as the inverse of [`pack_parameters`].
pub fn unpack_parameters(blocks: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let block = blocks.len() / channels.div_ceil(LANES).max(1);
    let taps = (block / LANES).saturating_sub(1);
    let at = |channel: usize, tap: usize| blocks[channel / LANES * block + tap * LANES + channel % LANES];
    let weights = (0..channels).flat_map(|channel| (0..taps).map(move |tap| (channel, tap)));
    (
        weights.map(|(channel, tap)| at(channel, tap)).collect(),
        (0..channels).map(|channel| at(channel, taps)).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_packing_and_unpacking() {
        for (channels, taps) in [(1_usize, 1_usize), (16, 9), (37, 9), (40, 1)] {
            let weights: Vec<f32> = (1..=channels * taps).map(|value| value as f32).collect();
            let bias: Vec<f32> = (1..=channels).map(|value| -(value as f32)).collect();
            let blocks = pack_parameters(&weights, &bias);
            assert_eq!(blocks.len(), channels.div_ceil(LANES) * (taps + 1) * LANES);
            assert_eq!(
                blocks.iter().filter(|value| **value != 0.0).count(),
                channels * (taps + 1)
            );
            assert_eq!(unpack_parameters(&blocks, channels), (weights, bias));
        }
        // Channel 17 is lane 1 of the second block.
        let blocks = pack_parameters(&[0.0; 18], &(0..18).map(|value| value as f32).collect::<Vec<_>>());
        assert_eq!(blocks[2 * LANES + LANES + 1], 17.0);
    }
}
