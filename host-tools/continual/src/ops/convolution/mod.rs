//! Convolution with gradients of its input and its weight.

mod columns;
mod dense;
mod grouped;
mod phases;
mod shape;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use clr_training::ops::{self, ConvOptions};

use super::slices::{contiguous, with_values};
use shape::ConvShape;

/// Convolves `x` `[N, I, H, W]` with `weight` `[O, I / groups, kh, kw]` (ONNX `Conv` without a bias) to
/// `[N, O, H', W']`. Gradients: both.
///
/// # Errors
/// Returns candle's error if the channels differ, or if the kernel does not fit the padded input.
pub fn conv(x: &Tensor, weight: &Tensor, options: ConvOptions) -> Result<Tensor> {
    let shape = ConvShape::new(x.dims4()?, weight.dims4()?, options)?;
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, Conv(shape));
    }
    ops::conv(x, weight, options)
}

/// Returns the gradient of the weight `[O, I / groups, kh, kw]`, for the gradient `dy` of the output. All tensors are on
/// the CPU.
///
/// # Errors
/// Returns candle's error if the sizes do not fit.
pub fn conv_weight_gradient(x: &Tensor, dy: &Tensor, weight: &Shape, options: ConvOptions) -> Result<Tensor> {
    let shape = ConvShape::new(x.dims4()?, weight.dims4()?, options)?;
    if dy.dims() != shape.output_dims() {
        candle_core::bail!(
            "convolution: expected a gradient {:?}, got {:?}",
            shape.output_dims(),
            dy.dims()
        );
    }
    weight_gradient(&shape, x, dy, weight)
}

fn weight_gradient(shape: &ConvShape, x: &Tensor, dy: &Tensor, weight: &Shape) -> Result<Tensor> {
    let mut dw = vec![0.0; weight.elem_count()];
    with_values(NAME, x, |x| {
        with_values(NAME, dy, |dy| {
            if grouped::applies(shape) {
                grouped::weight_gradient(shape, x, dy, &mut dw);
                return Ok(());
            }
            dense::weight_gradient(shape, x, dy, &mut dw)
        })
    })?;
    Tensor::from_vec(dw, weight, x.device())
}

fn input_gradient(shape: &ConvShape, dy: &Tensor, w: &Tensor, x: &Shape) -> Result<Tensor> {
    let mut dx = vec![0.0; x.elem_count()];
    with_values(NAME, w, |w| {
        with_values(NAME, dy, |dy| {
            if grouped::applies(shape) {
                grouped::input_gradient(shape, dy, w, &mut dx);
                return Ok(());
            }
            dense::input_gradient(shape, dy, w, &mut dx)
        })
    })?;
    Tensor::from_vec(dx, x, dy.device())
}

const NAME: &str = "convolution";

/// A convolution on the CPU, as an operator of candle's graph.
struct Conv(ConvShape);

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = &self.0;
        let (x, w) = (contiguous(NAME, x, x_layout)?, contiguous(NAME, w, w_layout)?);
        let mut y = vec![0.0; shape.images * shape.outputs * shape.output_plane()];
        if grouped::applies(shape) {
            grouped::forward(shape, x, w, &mut y);
        } else {
            dense::forward(shape, x, w, &mut y)?;
        }
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape.output_dims())))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d_input = x.track_op().then(|| input_gradient(&self.0, dy, w, x.shape()));
        let d_weight = w.track_op().then(|| weight_gradient(&self.0, x, dy, w.shape()));
        Ok((d_input.transpose()?, d_weight.transpose()?))
    }
}
