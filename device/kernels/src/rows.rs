//! Definitions shared by row kernels: parameter layouts and bounds.

use super::simd::LANES;

/// Bounds of a clamp; infinite bounds have no effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least value.
    pub low: f32,
    /// The largest value.
    pub high: f32,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
}

/// Number of a CLR layer's parameters per block: `[9 taps][16]` and bias `[16]`.
pub(crate) const CLR_PARAMETERS: usize = 10 * LANES;
/// Number of an affine's parameters per block: scale `[16]` and bias `[16]`.
pub const AFFINE_PARAMETERS: usize = 2 * LANES;
