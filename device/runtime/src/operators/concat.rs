//! Concatenation along the channels.

use clr_kernels::{LANES, concat, concat_gradient};
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

    fn backward(&self, step: Backward<'_>) {
        // Parts that are not wanted still take their place.
        let length = |channels: usize| channels.div_ceil(LANES) * self.pixels * LANES;
        let mut unwanted: Vec<Vec<f32>> = (step.dx.iter().zip(&self.channels))
            .map(|(dx, &channels)| vec![0.0; if dx.is_some() { 0 } else { length(channels) }])
            .collect();
        let parts = step.dx.iter_mut().zip(&mut unwanted).zip(&self.channels);
        let mut parts: Vec<(&mut [f32], usize)> = parts
            .map(|((dx, unwanted), &channels)| (dx.as_deref_mut().unwrap_or(unwanted), channels))
            .collect();
        concat_gradient(step.dy, self.pixels, &mut parts);
    }
}
