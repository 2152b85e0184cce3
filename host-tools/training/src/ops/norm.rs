//! Batch-statistics normalisation, alone and behind a CLR layer.

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{if_tracked, map_of, map_of_layout, result, slice, tensor_like, vector, with_two};
use crate::kernels::{
    act::with_act,
    norm::{self, Statistics},
    site_norm,
};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use clr_onnx::Activation;
use std::sync::{Arc, OnceLock};

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
    let statistics = Arc::new(OnceLock::new());
    let op = BatchNorm {
        eps,
        act,
        statistics: Arc::clone(&statistics),
    };
    let y = x.contiguous()?.apply_op3(&gamma, &beta, op)?;
    Ok((y, published(&statistics)?))
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
    let gamma = vector("clr batch norm", "gamma", gamma, map.c)?.flatten_all()?;
    let beta = vector("clr batch norm", "beta", beta, map.c)?.flatten_all()?;
    let affine = Tensor::cat(&[gamma, beta], 0)?;
    let statistics = Arc::new(OnceLock::new());
    let op = SiteNorm {
        eps,
        act,
        statistics: Arc::clone(&statistics),
    };
    let y = x.contiguous()?.apply_op3(&kernel, &affine, op)?;
    Ok((y, published(&statistics)?))
}

#[cfg(feature = "cuda")]
impl From<BatchStats> for Statistics {
    fn from(batch: BatchStats) -> Self {
        Self {
            mean: batch.mean,
            variance: batch.var,
        }
    }
}

fn published(statistics: &OnceLock<Statistics>) -> Result<BatchStats> {
    match statistics.get() {
        Some(statistics) => Ok(BatchStats {
            mean: statistics.mean.clone(),
            var: statistics.variance.clone(),
        }),
        None => candle_core::bail!("batch norm: no statistics were computed"),
    }
}

fn kept<'a>(op: &str, statistics: &'a OnceLock<Statistics>) -> Result<&'a Statistics> {
    match statistics.get() {
        Some(statistics) => Ok(statistics),
        None => candle_core::bail!("{op}: backward before forward"),
    }
}

struct BatchNorm {
    eps: f32,
    act: Option<Activation>,
    statistics: Arc<OnceLock<Statistics>>,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (x, gamma, beta) = (slice(x, lx)?, slice(gamma, lg)?, slice(beta, lb)?);
        let (y, statistics) = with_act!(self.act, act => norm::forward(x, gamma, beta, self.eps, act, map));
        self.statistics.get_or_init(|| statistics);
        Ok(result(y, map))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        gamma: &CudaStorage,
        lg: &Layout,
        beta: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (y, batch) = cuda::batch_norm((x, lx), (gamma, lg), (beta, lb), self.eps, self.act, map)?;
        self.statistics.get_or_init(|| batch.into());
        Ok(y)
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let map = map_of(self.name(), x)?;
        let statistics = kept(self.name(), &self.statistics)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let statistics = [&statistics.mean[..], &statistics.variance[..]];
            return cuda::batch_norm_backward(x, gamma, beta, dy, statistics, self.eps, self.act, map);
        }
        let (dx, dgamma, dbeta) = with_two(x, dy, |x, dy| {
            with_two(gamma, beta, |gamma, beta| {
                Ok(with_act!(self.act, act => norm::backward(x, dy, gamma, beta, statistics, self.eps, act, map)))
            })
        })?;
        let dx = if_tracked(dx, x)?;
        let dgamma = if_tracked(dgamma, gamma)?;
        let dbeta = if_tracked(dbeta, beta)?;
        Ok((dx, dgamma, dbeta))
    }
}

/// The third argument is gamma and beta, one behind the other.
struct SiteNorm {
    eps: f32,
    act: Option<Activation>,
    statistics: Arc<OnceLock<Statistics>>,
}

impl CustomOp3 for SiteNorm {
    fn name(&self) -> &'static str {
        "clr-batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        kernel: &CpuStorage,
        lk: &Layout,
        affine: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (x, kernel) = (slice(x, lx)?, slice(kernel, lk)?);
        let (gamma, beta) = slice(affine, la)?.split_at(map.c);
        let (y, statistics) =
            with_act!(self.act, act => site_norm::forward(x, kernel, gamma, beta, self.eps, act, map));
        self.statistics.get_or_init(|| statistics);
        Ok(result(y, map))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        kernel: &CudaStorage,
        lk: &Layout,
        affine: &CudaStorage,
        la: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let map = map_of_layout(lx)?;
        let (y, batch) = cuda::site_norm((x, lx), (kernel, lk), (affine, la), self.eps, self.act, map)?;
        self.statistics.get_or_init(|| batch.into());
        Ok(y)
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        affine: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let map = map_of(self.name(), x)?;
        let statistics = kept(self.name(), &self.statistics)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let statistics = [&statistics.mean[..], &statistics.variance[..]];
            return cuda::site_norm_backward(x, kernel, affine, dy, statistics, self.eps, self.act, map);
        }
        let want_x = x.track_op();
        let (gradients, mut dgamma) = with_two(x, dy, |x, dy| {
            with_two(kernel, affine, |kernel, affine| {
                let (gamma, beta) = affine.split_at(map.c);
                Ok(with_act!(self.act, act => {
                    site_norm::backward(x, dy, kernel, gamma, beta, statistics, self.eps, act, map, want_x)
                }))
            })
        })?;
        dgamma.extend_from_slice(&gradients.bias);
        let dx = gradients.x.map(|dx| tensor_like(dx, x)).transpose()?;
        let dk = if_tracked(gradients.kernel, kernel)?;
        let da = if_tracked(dgamma, affine)?;
        Ok((dx, dk, da))
    }
}
