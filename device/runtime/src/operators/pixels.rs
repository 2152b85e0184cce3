//! Operators that move or interpolate pixels: padding, cropping, resizing.

use clr_kernels::PixelMap;

use super::{Backward, Context, Operator};

/// Output pixels as copies or averages of input pixels (ONNX `Pad`, `Slice` of rows and columns, `Resize`).
#[derive(Debug)]
pub(super) struct Pixels {
    map: PixelMap,
    context: Context,
}

impl Pixels {
    pub(super) fn new(map: PixelMap, context: Context) -> Self {
        Self { map, context }
    }
}

impl Operator for Pixels {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.map.run(self.context.isa, inputs[0], out);
    }

    fn backward(&self, step: Backward<'_>) {
        if let Some(Some(dx)) = step.dx.first_mut() {
            self.map.gradient(self.context.isa, step.dy, dx);
        }
    }
}
