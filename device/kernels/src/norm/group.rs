//! Group normalisation over all pixels and the channels of each group (ONNX `GroupNormalization`, or instance
//! normalisation if every channel is a group).

use super::sums::{Linear, Planes, clear};
use crate::simd::{Isa, LANES};

/// `(x − mean) / √(variance + epsilon) · scale + bias`, with one mean and variance per group.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Number of channels, without the lanes beyond them.
    pub channels: usize,
    /// Number of groups of consecutive channels; it divides the number of channels.
    pub groups: usize,
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub scale: &'a [f32],
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl GroupNorm<'_> {
    fn lanes(&self) -> usize {
        self.channels.div_ceil(LANES) * LANES
    }

    fn check(&self, x: usize) {
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups) && x.is_multiple_of(self.lanes()));
        assert!(self.scale.len() == self.lanes() && self.bias.len() == self.lanes());
    }

    /// Returns the number of values of a group, on planes of `plane` values.
    fn count(&self, plane: usize) -> f64 {
        (self.channels / self.groups * (plane / LANES)) as f64
    }

    /// Returns the mean over each group, for every channel; zero beyond the channels. `sums` are per-channel sums over
    /// `plane` values.
    fn group_means(&self, sums: &[f32], plane: usize) -> Vec<f32> {
        let each = self.channels / self.groups;
        let mut means = vec![0.0; self.lanes()];
        for (sums, means) in sums[..self.channels]
            .chunks_exact(each)
            .zip(means.chunks_exact_mut(each))
        {
            let mean = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() / self.count(plane);
            means.fill(mean as f32);
        }
        means
    }

    /// Returns mean and 1 / √(variance + epsilon) of every channel's group; zero beyond the channels.
    fn statistics(&self, isa: Isa, x: Planes<'_>) -> (Vec<f32>, Vec<f32>) {
        let mean = self.group_means(&x.sum(isa), x.plane);
        let mut share = self.group_means(&x.squares(isa, &mean), x.plane);
        for variance in &mut share[..self.channels] {
            *variance = 1.0 / (*variance + self.epsilon).sqrt();
        }
        (mean, share)
    }
}

fn product(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// Computes `out` from `x`, both `[⌈C / 16⌉, H, W, 16]` with `plane` values per block.
pub fn group_norm(isa: Isa, norm: &GroupNorm<'_>, x: &[f32], plane: usize, out: &mut [f32]) {
    norm.check(x.len());
    let x = Planes { values: x, plane };
    let (mean, share) = norm.statistics(isa, x);
    Linear {
        x,
        centre: &mean,
        own: None,
        other: &product(norm.scale, &share),
        offset: norm.bias,
        to: out,
    }
    .apply(isa);
    clear(out, norm.channels, plane);
}

/// Replaces `dy`, the gradient of [`group_norm`]'s result, by the gradient of its input `x`.
pub fn group_norm_gradient(isa: Isa, norm: &GroupNorm<'_>, x: &[f32], plane: usize, dy: &mut [f32]) {
    norm.check(x.len());
    let x = Planes { values: x, plane };
    let (mean, share) = norm.statistics(isa, x);
    let gradient = Planes { values: dy, plane };
    // With g = dy · scale: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + epsilon).
    let of_g = norm.group_means(&product(&gradient.sum(isa), norm.scale), plane);
    let products = product(&gradient.products(isa, x, &mean), norm.scale);
    let of_product = norm.group_means(&product(&products, &share), plane);
    let negative = |values: Vec<f32>| values.into_iter().map(|value| -value).collect::<Vec<_>>();
    Linear {
        x,
        centre: &mean,
        own: Some(&product(norm.scale, &share)),
        other: &negative(product(&product(&share, &share), &of_product)),
        offset: &negative(product(&of_g, &share)),
        to: dy,
    }
    .apply(isa);
    clear(dy, norm.channels, plane);
}
