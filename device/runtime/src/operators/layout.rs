//! Changes of layout: blocks of the image, padding, vectors.

use clr_kernels::{self as kernels, LANES, unblock};
use clr_onnx::Shape;

use super::{Backward, Operator};

/// The image `[H, W, C]` in blocks.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) channels: usize,
}

impl Operator for Block {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        kernels::block(inputs[0], self.channels, out);
    }

    fn backward(&self, _step: Backward<'_>) {
        unreachable!("nothing before the image is trained")
    }
}

/// Constant spatial padding (ONNX `Pad`).
#[derive(Debug)]
pub(super) struct Pad {
    size: [usize; 2],
    pads: [usize; 4],
    value: f32,
}

impl Pad {
    /// `pads`: top, left, bottom, right of a map of `size` (rows, columns).
    pub(super) fn new(size: [usize; 2], pads: [usize; 4], value: f32) -> Self {
        Self { size, pads, value }
    }
}

impl Operator for Pad {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        kernels::pad(inputs[0], self.size, self.pads, self.value, out);
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn backward(&self, _step: Backward<'_>) {}
}

/// Between a map of one pixel and a vector: both have the same values in blocks.
#[derive(Debug)]
pub(super) struct Reshape;

impl Operator for Reshape {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        out.copy_from_slice(inputs[0]);
    }

    fn backward(&self, mut step: Backward<'_>) {
        step.pass_on();
    }
}

/// A map `[C, H, W]` to a vector `[C · H · W]` (ONNX `Flatten`).
#[derive(Debug)]
pub(super) struct Flatten {
    channels: usize,
    pixels: usize,
}

impl Flatten {
    pub(super) fn new(map: Shape) -> Self {
        let channels = map.channels();
        Self {
            channels,
            pixels: super::plane(map) / LANES,
        }
    }
}

impl Operator for Flatten {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let (out, rest) = out.split_at_mut(self.channels * self.pixels);
        unblock(inputs[0], self.channels, out);
        rest.fill(0.0);
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn backward(&self, _step: Backward<'_>) {}
}
