//! Pooling.

use clr_kernels::{LANES, PoolKind, PoolShape, global_average, global_average_gradient, pool, pool_gradient};
use clr_onnx::{Pool, Shape};
use rayon::prelude::*;

use super::{Backward, Context, Operator, Reads, resolved, size};

/// Number of values above which blocks are distributed over threads.
const PARALLEL: usize = 1 << 16;

/// Maximum or mean over windows (ONNX `MaxPool`, `AveragePool`).
#[derive(Debug)]
pub(super) struct Pooling {
    shape: PoolShape,
    context: Context,
}

impl Pooling {
    pub(super) fn max(window: &Pool, input: Shape, output: Shape, context: Context) -> Self {
        Self::new(window, PoolKind::Max, input, output, context)
    }

    pub(super) fn average(window: &Pool, input: Shape, output: Shape, context: Context) -> Self {
        let include_pad = window.count_include_pad;
        Self::new(window, PoolKind::Average { include_pad }, input, output, context)
    }

    fn new(window: &Pool, kind: PoolKind, input: Shape, output: Shape, context: Context) -> Self {
        let shape = pool_shape(window, kind, input, output);
        Self { shape, context }
    }

    /// Values of a block before and after.
    fn planes(&self) -> (usize, usize) {
        let plane = |[height, width]: [usize; 2]| height * width * LANES;
        (plane(self.shape.input), plane(self.shape.output))
    }
}

impl Operator for Pooling {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let (x, (from, to)) = (inputs[0], self.planes());
        let one = |(x, out): (&[f32], &mut [f32])| pool(self.context.isa, &self.shape, x, out);
        if self.context.threads > 1 && x.len() > PARALLEL {
            x.par_chunks_exact(from).zip(out.par_chunks_exact_mut(to)).for_each(one);
        } else {
            x.chunks_exact(from).zip(out.chunks_exact_mut(to)).for_each(one);
        }
    }

    fn reads(&self) -> Reads {
        if self.shape.kind == PoolKind::Max {
            Reads::INPUTS
        } else {
            Reads::NOTHING
        }
    }

    fn backward(&self, step: Backward<'_>) {
        let Some(Some(dx)) = step.dx.first_mut() else { return };
        let (from, to) = self.planes();
        // The gradient of a mean does not depend on the values.
        let none = vec![0.0; if step.inputs.is_empty() { from } else { 0 }];
        for (block, (dy, dx)) in step.dy.chunks_exact(to).zip(dx.chunks_exact_mut(from)).enumerate() {
            let x = step.inputs.first().map_or(&none[..], |x| &x[block * from..][..from]);
            pool_gradient(self.context.isa, &self.shape, x, dy, dx);
        }
    }
}

/// Returns the shape of a pooling of values with these shapes.
pub(crate) fn pool_shape(window: &Pool, kind: PoolKind, input: Shape, output: Shape) -> PoolShape {
    PoolShape {
        kind,
        input: size(input),
        output: size(output),
        kernel: window.kernel,
        stride: window.stride,
        dilation: [1, 1],
        pads: resolved(window, size(input)),
    }
}

/// Mean over the map (ONNX `GlobalAveragePool`).
#[derive(Debug)]
pub(super) struct GlobalAverage {
    plane: usize,
    context: Context,
}

impl GlobalAverage {
    /// Creates the operator for planes of `plane` values.
    pub(super) fn new(plane: usize, context: Context) -> Self {
        Self { plane, context }
    }
}

impl Operator for GlobalAverage {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        global_average(self.context.isa, inputs[0], self.plane, out);
    }

    fn backward(&self, step: Backward<'_>) {
        if let Some(Some(dx)) = step.dx.first_mut() {
            global_average_gradient(step.dy, self.plane, dx);
        }
    }
}
