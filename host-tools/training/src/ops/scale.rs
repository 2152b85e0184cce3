//! Per-channel scale and shift, for folded normalisation and for the sites of 1×1 convolutions.

use candle_core::{Result, Tensor};
use clr_onnx::Activation;

use super::{
    activation::activate,
    arguments::{map_of, vector},
    plain,
};
#[cfg(feature = "cuda")]
use super::{activation::split, cuda::operators as cuda};

/// Computes `act(x · scale + bias)` per channel: x `[N, C, H, W]`, scale and bias `[C]`.
///
/// Gradients: x, scale and bias.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn scale_shift(x: &Tensor, scale: &Tensor, bias: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    let map = map_of("scale shift", x)?;
    let scale = vector("scale shift", "the scale", scale, map.c)?;
    let bias = vector("scale shift", "the bias", bias, map.c)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let (act, rest) = split(act);
        return activate(
            x.contiguous()?.apply_op3(&scale, &bias, cuda::ScaleShift { act })?,
            rest,
        );
    }
    activate(plain::affine(x, &scale, &bias)?, act)
}
