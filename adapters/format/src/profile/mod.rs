//! What a task's images look like to the untouched backbone, so that a device can tell which task an image belongs to.
//!
//! The pooled features `[F]` of the backbone *without* any adapter become a [`sketch`] `[D]`; the profile is a Gaussian over
//! sketches, `mean` and a lower triangular `K` with `KᵀK` the precision, so that scoring an image is one triangular product:
//! `distance = ‖K (sketch − mean)‖² / D`. Why this, and what else was measured: `docs/reference/auto.md`.

mod learn;

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize};

/// The Gaussian of one task's sketches, and how far its own images stray from it.
///
/// Every adapter's profile is learned alone and compared with any others on the device: scores of one backbone share a
/// scale, also between input sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// `[D]`.
    pub mean: Vec<f32>,
    /// `[D]`, above 0: the diagonal of `K`.
    pub diagonal: Vec<f32>,
    /// `[D (D − 1) / 2]`: row after row what stands left of the diagonal of `K`.
    pub factor: Vec<f32>,
    /// The median distance of the task's own validation images.
    pub typical: f32,
    /// The distance that 5 % of them exceed; above `typical`.
    pub limit: f32,
}

impl Profile {
    /// Dimensions of the profiles that [`Profile::learn`] makes, unless the backbone has fewer features.
    pub const DIMENSIONS: usize = 120;

    /// Dimensions of the sketches, `D`.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// How far a sketch `[D]` lies from the task's: about 1 for its own, without an upper end.
    ///
    /// Plain sums in a fixed order: the same bits for the same numbers, whatever else is resident.
    #[must_use]
    pub fn distance(&self, sketch: &[f32]) -> f32 {
        let sum: f64 = (self.whitened(sketch).iter())
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        (sum / self.dimensions().max(1) as f64) as f32
    }

    /// A sketch `[D]` in the profile's own units, `K (sketch − mean)`: over the task's images every direction has mean 0 and
    /// about variance 1.
    #[must_use]
    pub fn whitened(&self, sketch: &[f32]) -> Vec<f32> {
        let difference: Vec<f32> = sketch.iter().zip(&self.mean).map(|(a, b)| a - b).collect();
        let mut rows = self.factor.as_slice();
        let mut whitened = Vec::with_capacity(difference.len());
        for (row, (diagonal, own)) in self.diagonal.iter().zip(&difference).enumerate() {
            let (left, rest) = rows.split_at_checked(row).unwrap_or((rows, &[]));
            rows = rest;
            whitened.push(diagonal * own + dot(left, &difference));
        }
        whitened
    }

    /// The logarithm of the Gaussian's volume, per dimension: what [`Profile::score`] takes off a task that is wide.
    #[must_use]
    pub fn log_volume(&self) -> f32 {
        let sum: f64 = self.diagonal.iter().map(|&value| libm::log(f64::from(value))).sum();
        (-2.0 * sum / self.dimensions().max(1) as f64) as f32
    }

    /// How well an image at `distance` fits, to be compared between tasks: twice its log-likelihood per dimension, up
    /// to a constant. Higher is better.
    #[must_use]
    pub fn score(&self, distance: f32) -> f32 {
        -(distance + self.log_volume())
    }

    /// Returns the out-of-distribution score of an image at `distance`, on a logarithmic scale: 0 is the median and 1 the
    /// 95th percentile of the task's validation images.
    #[must_use]
    pub fn ood_score(&self, distance: f32) -> f32 {
        let log = |value: f32| libm::log(f64::from(value.max(f32::MIN_POSITIVE)));
        let (typical, limit) = (log(self.typical), log(self.limit));
        ((log(distance) - typical) / (limit - typical)) as f32
    }
}

/// Eight sums side by side, for the processor's sake.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len().min(b.len())];
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Pooled features `[F]` as a sketch `[D]`: signed square roots, which tame what is large; divided by their norm and times √F,
/// which takes out contrast; then feature `i`, with a fixed random sign, added to entry `i mod D` (a count sketch, Charikar
/// et al. 2002: angles and distances survive, without a matrix).
#[must_use]
pub fn sketch(features: &[f32], dimensions: usize) -> Vec<f32> {
    let mut sketch = vec![0.0_f64; dimensions];
    if dimensions == 0 {
        return Vec::new();
    }
    let mut norm = 0.0_f64;
    for (index, &feature) in features.iter().enumerate() {
        let magnitude = f64::from(feature.abs());
        norm += magnitude;
        let root = libm::sqrt(magnitude);
        let up = (feature < 0.0) == (mix(index as u64) & 1 == 0);
        sketch[index % dimensions] += if up { root } else { -root };
    }
    let scale = if norm > 0.0 {
        libm::sqrt(features.len() as f64 / norm)
    } else {
        0.0
    };
    sketch.into_iter().map(|value| (value * scale) as f32).collect()
}

/// A number's bits, thoroughly mixed (SplitMix64's finaliser).
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
