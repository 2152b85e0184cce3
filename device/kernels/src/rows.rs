//! What the row kernels share: parameter layouts and bounds.

use super::simd::LANES;

/// Bounds of a clamp; infinite ones do nothing.
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

/// A CLR layer's parameters per block: `[9 taps][16]` and `[16]` of bias.
pub(crate) const CLR_PARAMETERS: usize = 10 * LANES;
/// An affine's parameters per block: `[16]` of scale and `[16]` of bias.
pub const AFFINE_PARAMETERS: usize = 2 * LANES;
