//! Changes of layout: the image to blocks, and maps to vectors.

use clr_kernels::{self as kernels, LANES, block_planes, unblock};
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

/// Conversion between a map of one pixel and a vector, which have the same values in blocks.
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

/// Conversion of a map `[C, H, W]` to a vector `[C · H · W]` (ONNX `Flatten`).
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

    fn backward(&self, step: Backward<'_>) {
        if let Some(Some(dx)) = step.dx.first_mut() {
            block_planes(&step.dy[..self.channels * self.pixels], self.channels, dx);
        }
    }
}
