//! Activations.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use clr_onnx::Activation;
use rayon::prelude::*;

use super::{
    slices::{contiguous, with_values},
    vectors::{clamp, clamp_gradient},
};

/// Values that a thread computes at once.
const PIECE: usize = 1 << 14;

/// Applies an activation to a tensor of any shape. Gradient: x. On the CPU, the derivative of a
/// clamp at its bounds is 0, as in PyTorch's `relu` and `relu6`.
///
/// # Errors
/// Returns candle's error.
pub fn activation(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let bounds = match activation {
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Clip { min, max } => Some((min, max)),
        _ => None,
    };
    match bounds {
        Some((low, high)) if x.device().is_cpu() => x.contiguous()?.apply_op1(Clamp { low, high }),
        _ => clr_training::ops::activation(x, activation),
    }
}

/// `min(max(x, low), high)`.
struct Clamp {
    low: f32,
    high: f32,
}

impl CustomOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(self.name(), x, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| {
            clamp(y, x, self.low, self.high);
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; x.elem_count()];
        with_values(self.name(), x, |x| {
            with_values(self.name(), dy, |dy| {
                let pieces = dx
                    .par_chunks_mut(PIECE)
                    .zip(x.par_chunks(PIECE))
                    .zip(dy.par_chunks(PIECE));
                pieces.for_each(|((dx, x), dy)| {
                    clamp_gradient(dx, x, dy, self.low, self.high);
                });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
