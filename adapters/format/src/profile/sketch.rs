//! Sketch of pooled features, for profiles without a background.

use alloc::{vec, vec::Vec};

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
