//! Global response normalisation (Woo et al. 2023, *`ConvNeXt` V2*).

use super::sums::{Linear, Planes, clear};
use crate::simd::{Isa, LANES};

/// `scale · x · g / (mean_c g + epsilon) + bias + x`, where `g` is the Euclidean norm of a channel over its pixels.
#[derive(Clone, Copy, Debug)]
pub struct ResponseNorm<'a> {
    /// Number of channels, without the lanes beyond them.
    pub channels: usize,
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub scale: &'a [f32],
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub bias: &'a [f32],
    /// Added to the mean of the norms.
    pub epsilon: f32,
}

impl ResponseNorm<'_> {
    fn lanes(&self) -> usize {
        self.channels.div_ceil(LANES) * LANES
    }

    fn check(&self, x: usize) {
        assert!(self.channels > 0 && x.is_multiple_of(self.lanes()));
        assert!(self.scale.len() == self.lanes() && self.bias.len() == self.lanes());
    }

    /// Returns every channel's norm (zero beyond the channels), and the divisor of the norms.
    fn norms(&self, isa: Isa, x: Planes<'_>) -> (Vec<f32>, f64) {
        let mut norms = x.squares(isa, &vec![0.0; self.lanes()]);
        norms[self.channels..].fill(0.0);
        for norm in &mut norms {
            *norm = norm.sqrt();
        }
        let mean = norms.iter().map(|norm| f64::from(*norm)).sum::<f64>() / self.channels as f64;
        (norms, mean + f64::from(self.epsilon))
    }

    /// Returns the factors by which `x` is multiplied; zero beyond the channels.
    fn factors(&self, norms: &[f32], divisor: f64) -> Vec<f32> {
        let factor = |(norm, scale): (&f32, &f32)| (f64::from(*scale) * f64::from(*norm) / divisor) as f32 + 1.0;
        let mut factors: Vec<f32> = norms.iter().zip(self.scale).map(factor).collect();
        factors[self.channels..].fill(0.0);
        factors
    }
}

/// Computes `out` from `x`, both `[⌈C / 16⌉, H, W, 16]` with `plane` values per block.
pub fn global_response_norm(isa: Isa, norm: &ResponseNorm<'_>, x: &[f32], plane: usize, out: &mut [f32]) {
    norm.check(x.len());
    let x = Planes { values: x, plane };
    let (norms, divisor) = norm.norms(isa, x);
    Linear {
        x,
        centre: &vec![0.0; norm.lanes()],
        own: None,
        other: &norm.factors(&norms, divisor),
        offset: norm.bias,
        to: out,
    }
    .apply(isa);
    clear(out, norm.channels, plane);
}

/// Replaces `dy`, the gradient of [`global_response_norm`]'s result, by the gradient of its input `x`. For a channel of
/// zeros, the norm's gradient is taken as zero.
pub fn global_response_norm_gradient(isa: Isa, norm: &ResponseNorm<'_>, x: &[f32], plane: usize, dy: &mut [f32]) {
    norm.check(x.len());
    let x = Planes { values: x, plane };
    let (norms, divisor) = norm.norms(isa, x);
    let zeros = vec![0.0; norm.lanes()];
    let products = Planes { values: dy, plane }.products(isa, x, &zeros);
    // The gradient of g / divisor and, through the mean, of every g.
    let shares: Vec<f64> = products
        .iter()
        .zip(norm.scale)
        .map(|(p, s)| f64::from(*p) * f64::from(*s))
        .collect();
    let shares = &shares[..norm.channels];
    let through_mean = shares
        .iter()
        .zip(&norms)
        .map(|(share, g)| share * f64::from(*g))
        .sum::<f64>()
        / (divisor * divisor * norm.channels as f64);
    let mut other = vec![0.0; norm.lanes()];
    for ((other, share), &g) in other.iter_mut().zip(shares).zip(&norms) {
        if g > 0.0 {
            // dg / dx = x / g.
            *other = ((share / divisor - through_mean) / f64::from(g)) as f32;
        }
    }
    Linear {
        x,
        centre: &zeros,
        own: Some(&norm.factors(&norms, divisor)),
        other: &other,
        offset: &zeros,
        to: dy,
    }
    .apply(isa);
    clear(dy, norm.channels, plane);
}
