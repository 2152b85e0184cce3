//! CLR layer: a 3×3 kernel per channel, stride 1, padding 1 (CLR, arXiv 2307.11386, section 3).

use candle_core::{Result, Tensor};
use clr_onnx::Activation;

use super::{
    activation::activate,
    arguments::{map_of, vector},
    plain,
};
#[cfg(feature = "cuda")]
use super::{activation::split, cuda::operators as cuda};

/// Computes a depthwise 3×3 convolution, stride 1, padding 1: x `[N, C, H, W]`, kernel `[C, 1, 3, 3]`.
///
/// Gradients: x and kernel.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn clr_depthwise(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let map = map_of("clr depthwise", x)?;
    let kernel = vector("clr depthwise", "the kernel", kernel, map.c * 9)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op2(&kernel, cuda::Depthwise);
    }
    plain::depthwise(x, &kernel)
}

/// Computes a folded CLR site: `act(depthwise(x, kernel) + bias)` with x `[N, C, H, W]`, kernel `[C, 1, 3, 3]`, bias
/// `[C]`.
///
/// Gradients: x, kernel and bias. Only x is stored for them; the pre-activation is recomputed.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn clr_site(x: &Tensor, kernel: &Tensor, bias: &Tensor, act: Option<Activation>) -> Result<Tensor> {
    let map = map_of("clr site", x)?;
    let kernel = vector("clr site", "the kernel", kernel, map.c * 9)?;
    let bias = vector("clr site", "the bias", bias, map.c)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let (act, rest) = split(act);
        return activate(x.contiguous()?.apply_op3(&kernel, &bias, cuda::Site { act })?, rest);
    }
    let y = plain::depthwise(x, &kernel)?.broadcast_add(&bias.reshape((1, map.c, 1, 1))?)?;
    activate(y, act)
}
