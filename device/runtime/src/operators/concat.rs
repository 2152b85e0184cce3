//! Concatenation along the channels.

use clr_kernels::concat;
use clr_onnx::Shape;

use super::{Backward, Operator};

/// Joins values of one size (ONNX `Concat`, axis 1).
#[derive(Debug)]
pub(super) struct Concat {
    channels: Vec<usize>,
    pixels: usize,
}

impl Concat {
    pub(super) fn new(inputs: &[Shape], pixels: usize) -> Self {
        let channels = inputs.iter().map(|shape| shape.channels()).collect();
        Self { channels, pixels }
    }
}

impl Operator for Concat {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let parts: Vec<(&[f32], usize)> = inputs.iter().copied().zip(self.channels.iter().copied()).collect();
        concat(&parts, self.pixels, out);
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn backward(&self, _step: Backward<'_>) {}
}
