//! Element-wise activations, `PRelu`, and the residual sum with its activation.

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{if_tracked, map_of, map_of_layout, result, slice, tensor_like, vector, with_two};
use crate::kernels::{act::with_act, affine};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use clr_onnx::Activation;

/// An element-wise activation of a tensor of any shape. Gradient: x.
///
/// # Errors
/// If the tensor is not f32 on the CPU.
pub fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Activate(act))
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let y = with_act!(Some(self.0), act => affine::activate(x, act));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::activation((x, layout), self.0)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::activation_backward(x, dy, self.0).map(Some);
        }
        let dx = with_two(x, dy, |x, dy| {
            Ok(with_act!(Some(self.0), act => affine::activate_backward(x, dy, act)))
        })?;
        tensor_like(dx, x).map(Some)
    }
}

/// `act(a + b)` for two tensors of one shape: the end of a residual block. Gradients: a and b.
///
/// # Errors
/// If the shapes differ.
pub fn add_activation(a: &Tensor, b: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    if a.shape() != b.shape() {
        candle_core::bail!(
            "add: expected two tensors of one shape, got {:?} and {:?}",
            a.dims(),
            b.dims()
        );
    }
    a.contiguous()?.apply_op2(&b.contiguous()?, AddActivation(act))
}

struct AddActivation(Option<Activation>);

impl AddActivation {
    fn gradient(&self, a: &Tensor, b: &Tensor, dy: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if a.device().is_cuda() {
            return cuda::add_backward(a, b, dy, self.0);
        }
        let values = with_two(a, b, |a, b| {
            super::storage::with_values(dy, |dy| Ok(with_act!(self.0, act => affine::sum(a, b, Some(dy), act))))
        })?;
        tensor_like(values, a)
    }
}

impl CustomOp2 for AddActivation {
    fn name(&self) -> &'static str {
        "add-activation"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(a, la)?, slice(b, lb)?);
        let y = with_act!(self.0, act => affine::sum(a, b, None, act));
        Ok((CpuStorage::F32(y), la.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, la: &Layout, b: &CudaStorage, lb: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::add((a, la), (b, lb), self.0)
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = if self.0.is_none() {
            dy.clone()
        } else {
            self.gradient(a, b, dy)?
        };
        Ok((a.track_op().then(|| gradient.clone()), b.track_op().then_some(gradient)))
    }
}

/// `x if x ≥ 0 else slope · x` (ONNX `PRelu`): x `[N, C, H, W]`, slope `[C]`. Gradients: x and slope.
///
/// # Errors
/// If the sizes differ.
pub fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let map = map_of("prelu", x)?;
    let slope = vector("prelu", "the slope", slope, map.c)?;
    x.contiguous()?.apply_op2(&slope, PRelu)
}

struct PRelu;

impl CustomOp2 for PRelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, slope: &CpuStorage, ls: &Layout) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        Ok(result(affine::prelu(slice(x, lx)?, slice(slope, ls)?, map), map))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, slope: &CudaStorage, ls: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::prelu((x, lx), (slope, ls), map_of_layout(lx)?)
    }

    fn bwd(&self, x: &Tensor, slope: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let map = map_of(self.name(), x)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::prelu_backward(x, slope, dy, map);
        }
        let (dx, ds) = with_two(x, dy, |x, dy| {
            super::storage::with_values(slope, |slope| Ok(affine::prelu_backward(x, slope, dy, map)))
        })?;
        let dx = if_tracked(dx, x)?;
        let ds = if_tracked(ds, slope)?;
        Ok((dx, ds))
    }
}
