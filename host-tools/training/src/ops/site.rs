//! The CLR layer: one 3×3 kernel per channel, stride 1, padding 1 (CLR, arXiv 2307.11386, section 3).

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{if_tracked, map_of, map_of_layout, result, slice, tensor_like, vector, with_two, with_values};
use crate::kernels::{
    act::with_act,
    depthwise::{Gradients, backward, forward},
};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use clr_onnx::Activation;

/// Depthwise 3×3 convolution, stride 1, padding 1: x `[N, C, H, W]`, kernel `[C, 1, 3, 3]`.
///
/// Gradients: x and kernel.
///
/// # Errors
/// If the sizes differ.
pub fn clr_depthwise(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let map = map_of("clr depthwise", x)?;
    let kernel = vector("clr depthwise", "the kernel", kernel, map.c * 9)?;
    x.contiguous()?.apply_op2(&kernel, Depthwise)
}

/// A folded CLR site: `act(depthwise(x, kernel) + bias)` with x `[N, C, H, W]`, kernel `[C, 1, 3, 3]`, bias `[C]`.
///
/// Gradients: x, kernel and bias. Only x is kept for them; the pre-activation is computed again.
///
/// # Errors
/// If the sizes differ.
pub fn clr_site(x: &Tensor, kernel: &Tensor, bias: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    let map = map_of("clr site", x)?;
    let kernel = vector("clr site", "the kernel", kernel, map.c * 9)?;
    let bias = vector("clr site", "the bias", bias, map.c)?;
    x.contiguous()?.apply_op3(&kernel, &bias, Site { act })
}

struct Depthwise;

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "clr-depthwise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, kernel: &CpuStorage, lk: &Layout) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (x, kernel) = (slice(x, lx)?, slice(kernel, lk)?);
        Ok(result(with_act!(None, act => forward(x, kernel, None, act, map)), map))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        kernel: &CudaStorage,
        lk: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::site((x, lx), (kernel, lk), None, None, map_of_layout(lx)?)
    }

    fn bwd(&self, x: &Tensor, kernel: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (dx, dk, _) = cuda::site_backward(x, kernel, None, dy, None, map_of(self.name(), x)?)?;
            return Ok((dx, dk));
        }
        let gradients = gradients(x, kernel, None, None, dy)?;
        let dx = gradients.x.map(|dx| tensor_like(dx, x)).transpose()?;
        let dk = if_tracked(gradients.kernel, kernel)?;
        Ok((dx, dk))
    }
}

fn gradients(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    dy: &Tensor,
) -> Result<Gradients> {
    let map = map_of("clr site", x)?;
    let run = |bias: Option<&[f32]>| {
        with_two(x, dy, |x_values, dy| {
            with_values(kernel, |kernel| {
                let want_x = x.track_op();
                Ok(with_act!(activation, act => backward(x_values, kernel, bias, act, dy, map, want_x)))
            })
        })
    };
    match bias {
        None => run(None),
        Some(bias) => with_values(bias, |bias| run(Some(bias))),
    }
}

struct Site {
    act: Option<Activation>,
}

impl CustomOp3 for Site {
    fn name(&self) -> &'static str {
        "clr-site"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        kernel: &CpuStorage,
        lk: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (x, kernel, bias) = (slice(x, lx)?, slice(kernel, lk)?, slice(bias, lb)?);
        Ok(result(
            with_act!(self.act, act => forward(x, kernel, Some(bias), act, map)),
            map,
        ))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        kernel: &CudaStorage,
        lk: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::site((x, lx), (kernel, lk), Some((bias, lb)), self.act, map_of_layout(lx)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::site_backward(x, kernel, Some(bias), dy, self.act, map_of(self.name(), x)?);
        }
        let gradients = gradients(x, kernel, Some(bias), self.act, dy)?;
        let dx = gradients.x.map(|dx| tensor_like(dx, x)).transpose()?;
        let dk = if_tracked(gradients.kernel, kernel)?;
        let db = if_tracked(gradients.bias, bias)?;
        Ok((dx, dk, db))
    }
}
