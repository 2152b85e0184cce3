//! Per-channel scale and shift: folded normalisation, and the sites behind 1×1 convolutions.

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{if_tracked, map_of, map_of_layout, result, slice, tensor_like, vector, with_two};
use crate::kernels::{act::with_act, affine};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use clr_onnx::Activation;

/// `act(x · scale + bias)` per channel: x `[N, C, H, W]`, scale and bias `[C]`.
///
/// Gradients: x, scale and bias.
///
/// # Errors
/// If the sizes differ.
pub fn scale_shift(x: &Tensor, scale: &Tensor, bias: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    let map = map_of("scale shift", x)?;
    let scale = vector("scale shift", "the scale", scale, map.c)?;
    let bias = vector("scale shift", "the bias", bias, map.c)?;
    x.contiguous()?.apply_op3(&scale, &bias, ScaleShift { act })
}

struct ScaleShift {
    act: Option<Activation>,
}

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        scale: &CpuStorage,
        ls: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (x, scale, bias) = (slice(x, lx)?, slice(scale, ls)?, slice(bias, lb)?);
        Ok(result(
            with_act!(self.act, act => affine::forward(x, scale, bias, act, map)),
            map,
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        scale: &CudaStorage,
        ls: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::affine((x, lx), (scale, ls), (bias, lb), self.act, map_of_layout(lx)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let map = map_of(self.name(), x)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::affine_backward(x, scale, bias, dy, self.act, map);
        }
        let want_x = x.track_op();
        let (dx, ds, db) = with_two(x, dy, |x, dy| {
            with_two(scale, bias, |scale, bias| {
                Ok(with_act!(self.act, act => affine::backward(x, dy, scale, bias, act, map, want_x)))
            })
        })?;
        let dx = dx.map(|dx| tensor_like(dx, x)).transpose()?;
        let ds = if_tracked(ds, scale)?;
        let db = if_tracked(db, bias)?;
        Ok((dx, ds, db))
    }
}
