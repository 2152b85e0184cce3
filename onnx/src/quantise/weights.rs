//! Integer weights and biases of a convolution.

use crate::{Conv, Quantisation, QuantisedTensor, Tensor};

/// The largest integer weight. The range is symmetric, so −128 is not used.
const LARGEST: f32 = 127.0;
/// The largest integer bias. Its sum with the products must fit in 32 bits.
const LARGEST_BIAS: f32 = (1 << 30) as f32;

/// Returns the weights rounded to integers for an input on `grid`. The scale of each output channel is the least with which
/// its weights and its bias are integers of 8 and 31 bits.
pub(super) fn quantised(conv: &Conv, grid: Quantisation) -> QuantisedTensor {
    let values = conv.weight.values();
    let channels = conv.channels();
    let filter = values.len() / channels;
    let (mut integers, mut scales) = (Vec::with_capacity(values.len()), Vec::with_capacity(channels));
    for (channel, weights) in values.chunks_exact(filter).enumerate() {
        let largest = weights
            .iter()
            .fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
        let bias = conv.bias.as_ref().map_or(0.0, |bias| bias.data()[channel].abs());
        let scale = (largest / LARGEST).max(bias / LARGEST_BIAS / grid.scale);
        // A channel without weights and bias has any scale.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        scales.push(scale);
        let round = |weight: &f32| (weight / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
        integers.extend(weights.iter().map(round));
    }
    QuantisedTensor::new(conv.weight.shape(), integers, scales)
}

/// Returns the bias less `shift` `[O]`.
pub(super) fn shifted(conv: &Conv, shift: &[f32]) -> Result<Tensor, String> {
    let channels = conv.channels();
    if shift.len() != channels {
        return Err(format!("expected {channels} shifts, got {}", shift.len()));
    }
    let bias = |channel: usize| conv.bias.as_ref().map_or(0.0, |bias| bias.data()[channel]);
    let shifted = shift.iter().enumerate().map(|(channel, shift)| bias(channel) - shift);
    Ok(Tensor::new([channels], shifted.collect::<Vec<_>>()))
}
