//! Feature profile of a task's images, used to select the task of an image.
//!
//! The backbone *without* any adapter gives pooled features `[F]`, which are reduced to a [`sketch`] `[D]`. The profile
//! is a Gaussian over sketches: `mean`, and a lower triangular `K`, where `KᵀK` is the precision matrix. Scoring an
//! image therefore takes one triangular product: `distance = ‖K (sketch − mean)‖² / D`. Reasons and alternatives:
//! `docs/reference/auto.md`.

mod learn;

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::StepSize;

/// Gaussian over the sketches of one task's images, and the typical distances of its own images.
///
/// Each adapter's profile is fitted separately; the device compares all of them. Scores of the same backbone are
/// comparable, also between input sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The mean sketch `[D]`.
    pub mean: Vec<f32>,
    /// The diagonal of `K`, `[D]`, above 0.
    pub diagonal: Vec<f32>,
    /// The elements below the diagonal of `K`, row by row: `[D (D − 1) / 2]`.
    pub factor: Vec<f32>,
    /// The median distance of the task's own validation images from the mean.
    pub typical: f32,
    /// The distance that 5 % of the task's validation images exceed. It is above `typical`.
    pub limit: f32,
}

impl Profile {
    /// Number of dimensions of the profiles that [`Profile::learn`] fits, unless the backbone has fewer features.
    pub const DIMENSIONS: usize = 120;

    /// Returns the number of dimensions of the sketches, `D`.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// Returns the profile with the nearest multiples of the steps of mean and factor. The diagonal stays above 0.
    #[must_use]
    pub fn rounded(&self, [mean, factor]: [StepSize; 2]) -> Self {
        let least = factor.value(1);
        Self {
            mean: mean.round(&self.mean),
            diagonal: self
                .diagonal
                .iter()
                .map(|&value| factor.nearest(value).max(least))
                .collect(),
            factor: factor.round(&self.factor),
            ..*self
        }
    }

    /// Returns the distance of a sketch `[D]` from the task's mean: about 1 for the task's own images, unbounded above.
    ///
    /// The order of summation is fixed, so equal input gives equal bits, whatever other tasks are installed.
    #[must_use]
    pub fn distance(&self, sketch: &[f32]) -> f32 {
        let sum: f64 = (self.whitened(sketch).iter())
            .map(|&value| f64::from(value) * f64::from(value))
            .sum();
        (sum / self.dimensions().max(1) as f64) as f32
    }

    /// Returns the whitened sketch `[D]`, `K (sketch − mean)`. Over the task's images, every dimension has mean 0 and a
    /// variance of about 1.
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

    /// Returns the logarithm of the Gaussian's volume per dimension, which [`Profile::score`] subtracts.
    #[must_use]
    pub fn log_volume(&self) -> f32 {
        let sum: f64 = self.diagonal.iter().map(|&value| libm::log(f64::from(value))).sum();
        (-2.0 * sum / self.dimensions().max(1) as f64) as f32
    }

    /// Returns the score of an image at `distance`, comparable between tasks: twice its log-likelihood per dimension,
    /// up to a constant. Higher is better.
    #[must_use]
    pub fn score(&self, distance: f32) -> f32 {
        -(distance + self.log_volume())
    }

    /// Returns the out-of-distribution score of an image at `distance`, on a logarithmic scale: 0 is the median and 1
    /// the 95th percentile of the task's validation images.
    #[must_use]
    pub fn ood_score(&self, distance: f32) -> f32 {
        let log = |value: f32| libm::log(f64::from(value.max(f32::MIN_POSITIVE)));
        let (typical, limit) = (log(self.typical), log(self.limit));
        ((log(distance) - typical) / (limit - typical)) as f32
    }
}

/// Returns the dot product, in eight parallel sums for vectorisation.
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

/// Returns the sketch `[D]` of pooled features `[F]`.
///
/// 1. Signed square roots damp large values.
/// 2. Division by the norm and multiplication by √F remove the contrast.
/// 3. Feature `i`, with a fixed random sign, is added to entry `i mod D`: a count sketch (Charikar et al. 2002), which
///    preserves angles and distances without a matrix.
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

/// Mixes a number's bits (SplitMix64's finaliser).
fn mix(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
