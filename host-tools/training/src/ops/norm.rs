//! Normalisation with a batch's statistics, alone or after a CLR layer.

use candle_core::{Result, Tensor};
use clr_learning::ChannelStatistics;
use clr_onnx::Activation;

use super::{
    activation::activate,
    arguments::{map_of, vector},
    plain,
};
#[cfg(feature = "cuda")]
use super::{activation::split, cuda::operators as cuda};

/// Computes `act(gamma · (x − mean) / √(var + eps) + beta)` with the statistics of this batch: x `[N, C, H, W]`, gamma
/// and beta `[C]`. Also returns the statistics.
///
/// Gradients: x, gamma and beta.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, ChannelStatistics)> {
    let map = map_of("batch norm", x)?;
    let gamma = vector("batch norm", "gamma", gamma, map.c)?;
    let beta = vector("batch norm", "beta", beta, map.c)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let (act, rest) = split(act);
        let (y, statistics) = cuda::batch_norm(x, &gamma, &beta, eps, act)?;
        return Ok((activate(y, rest)?, statistics));
    }
    let (y, [mean, variance]) = plain::batch_norm(x, &gamma, &beta, eps)?;
    let statistics = ChannelStatistics {
        mean: mean.to_vec1()?,
        variance: variance.to_vec1()?,
        count: map.n * map.h * map.w,
    };
    Ok((activate(y, act)?, statistics))
}

/// Computes a CLR site in training, in one operator: `act(batch_norm(depthwise(x, kernel)))` with the statistics of
/// this batch. x `[N, C, H, W]`, kernel `[C, 1, 3, 3]`, gamma and beta `[C]`.
///
/// Gradients: x, kernel, gamma and beta. The result equals [`super::clr_depthwise`] followed by [`batch_norm`], but the
/// map between them is not stored.
///
/// # Errors
/// Returns candle's error if the sizes do not match.
pub fn clr_batch_norm(
    x: &Tensor,
    kernel: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, ChannelStatistics)> {
    let map = map_of("clr batch norm", x)?;
    let kernel = vector("clr batch norm", "the kernel", kernel, map.c * 9)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let (act, rest) = split(act);
        let gamma = vector("clr batch norm", "gamma", gamma, map.c)?.flatten_all()?;
        let beta = vector("clr batch norm", "beta", beta, map.c)?.flatten_all()?;
        let (y, statistics) = cuda::clr_batch_norm(x, &kernel, &Tensor::cat(&[gamma, beta], 0)?, eps, act)?;
        return Ok((activate(y, rest)?, statistics));
    }
    batch_norm(&plain::depthwise(x, &kernel)?, gamma, beta, eps, act)
}
