//! Multiplier of a site, and the folded values that the runtime executes.

use crate::Weight;

/// Kernel or scale of a site.
#[derive(Clone, Debug)]
pub struct Multiplier {
    /// `[C, 3, 3]` of a kernel, `[C]` of a scale.
    pub weight: Weight,
    /// Whether the multiplier is a depthwise 3×3 kernel.
    pub kernel: bool,
}

/// Folded values of a site, for the runtime.
pub(crate) struct FoldedSite {
    /// `[C, 3, 3]` or `[C]`.
    pub(crate) weights: Vec<f32>,
    /// `[C]`.
    pub(crate) bias: Vec<f32>,
    pub(crate) kernel: bool,
    pub(crate) trained: bool,
}
