//! Normalisation with a batch's statistics, alone and after a CLR layer.

use candle_core::{Result, Tensor};
use clr_onnx::Activation;

#[cfg(feature = "cuda")]
use super::cuda::operators as cuda;
use super::{
    activation::activate,
    arguments::{map_of, vector},
    plain,
};

/// The statistics of a batch, per channel, over N, H and W.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStats {
    /// Mean.
    pub mean: Vec<f32>,
    /// Biased variance: divided by the number of values.
    pub var: Vec<f32>,
}

/// `act(gamma · (x − mean) / √(var + eps) + beta)` with the statistics of this batch, which come with the result:
/// x `[N, C, H, W]`, gamma and beta `[C]`.
///
/// Gradients: x, gamma and beta.
///
/// # Errors
/// If the sizes differ.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, BatchStats)> {
    let map = map_of("batch norm", x)?;
    let gamma = vector("batch norm", "gamma", gamma, map.c)?;
    let beta = vector("batch norm", "beta", beta, map.c)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && act.is_none_or(cuda::knows) {
        return cuda::batch_norm(x, &gamma, &beta, eps, act);
    }
    let (y, [mean, var]) = plain::batch_norm(x, &gamma, &beta, eps)?;
    let statistics = BatchStats {
        mean: mean.to_vec1()?,
        var: var.to_vec1()?,
    };
    Ok((activate(y, act)?, statistics))
}

/// A CLR site in training, in one operator: `act(batch_norm(depthwise(x, kernel)))` with the statistics of this batch. x
/// `[N, C, H, W]`, kernel `[C, 1, 3, 3]`, gamma and beta `[C]`.
///
/// Gradients: x, kernel, gamma and beta. Equal to [`super::clr_depthwise`] followed by [`batch_norm`], but the map between them is never
/// kept.
///
/// # Errors
/// If the sizes differ.
pub fn clr_batch_norm(
    x: &Tensor,
    kernel: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, BatchStats)> {
    let map = map_of("clr batch norm", x)?;
    let kernel = vector("clr batch norm", "the kernel", kernel, map.c * 9)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && act.is_none_or(cuda::knows) {
        let gamma = vector("clr batch norm", "gamma", gamma, map.c)?.flatten_all()?;
        let beta = vector("clr batch norm", "beta", beta, map.c)?.flatten_all()?;
        return cuda::clr_batch_norm(x, &kernel, &Tensor::cat(&[gamma, beta], 0)?, eps, act);
    }
    batch_norm(&plain::depthwise(x, &kernel)?, gamma, beta, eps, act)
}
