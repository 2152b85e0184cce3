//! Element-wise activations, `PRelu`, and the residual sum with its activation.

use candle_core::{Result, Tensor};
use clr_onnx::Activation;

#[cfg(feature = "cuda")]
use super::cuda::operators as cuda;
use super::{
    arguments::{map_of, vector},
    plain,
};

/// Applies an element-wise activation to a tensor of any shape. Gradient: x.
///
/// # Errors
/// Returns candle's error if candle does not implement the activation.
pub fn activation(x: &Tensor, act: Activation) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && cuda::knows(act) {
        return x.contiguous()?.apply_op1(cuda::Activate(act));
    }
    plain::activation(x, act)
}

/// Splits an activation into a part for the CUDA kernels and a part for plain candle.
#[cfg(feature = "cuda")]
pub(super) fn split(act: Option<Activation>) -> (Option<Activation>, Option<Activation>) {
    if act.is_none_or(cuda::knows) {
        (act, None)
    } else {
        (None, act)
    }
}

/// Returns `act(x)`, or `x` if there is no activation.
pub(super) fn activate(x: Tensor, act: Option<Activation>) -> Result<Tensor> {
    act.map_or(Ok(x.clone()), |act| activation(&x, act))
}

/// Computes `act(a + b)` for two tensors of the same shape, at the end of a residual block. Gradients: a and b.
///
/// # Errors
/// Returns candle's error if the shapes differ.
pub fn add_activation(a: &Tensor, b: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    if a.shape() != b.shape() {
        candle_core::bail!(
            "add: expected two tensors of one shape, got {:?} and {:?}",
            a.dims(),
            b.dims()
        );
    }
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        let (fused, rest) = split(act);
        return activate(
            a.contiguous()?
                .apply_op2(&b.contiguous()?, cuda::AddActivation(fused))?,
            rest,
        );
    }
    activate((a + b)?, act)
}

/// Computes `x if x ≥ 0 else slope · x` (ONNX `PRelu`): x `[N, C, H, W]`, slope `[C]`. Gradients: x and slope.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let map = map_of("prelu", x)?;
    let slope = vector("prelu", "the slope", slope, map.c)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op2(&slope, cuda::PRelu);
    }
    plain::prelu(x, &slope)
}
