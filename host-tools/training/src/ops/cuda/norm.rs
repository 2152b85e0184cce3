//! Batch-statistics normalisation.

use super::{Buffer, Given, Three, act, if_tracked, maybe_like, of_map, part, result, with_parts};
use crate::cuda::backend::Backend as _;
use crate::cuda::norm::{self, Normalised};
use crate::cuda::site::{self, Wanted};
use crate::sizes::Map;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Shape, Storage, Tensor};
use clr_learning::ChannelStatistics;
use clr_onnx::Activation;

/// Copies the statistics to the host and returns them as part of the result.
fn published(on: &CudaDevice, normal: Normalised<Buffer>, map: Map) -> Result<(Buffer, ChannelStatistics)> {
    let (mean, variance) = (on.clone_dtoh(&normal.mean)?, on.clone_dtoh(&normal.variance)?);
    let count = map.n * map.plane();
    Ok((normal.y, ChannelStatistics { mean, variance, count }))
}

pub(in crate::ops) fn batch_norm(
    x: Given<'_>,
    gamma: Given<'_>,
    beta: Given<'_>,
    epsilon: f32,
    activation: Option<Activation>,
    map: Map,
) -> Result<((CudaStorage, Shape), ChannelStatistics)> {
    let on = &x.0.device;
    let affine = [part(gamma)?, part(beta)?];
    let normal = norm::forward(on, part(x)?, affine, epsilon, act(activation)?, map)?;
    let (y, statistics) = published(on, normal, map)?;
    Ok((result(y, on, of_map(map)), statistics))
}

pub(in crate::ops) fn batch_norm_backward(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    dy: &Tensor,
    statistics: [&[f32]; 2],
    epsilon: f32,
    activation: Option<Activation>,
    map: Map,
) -> Result<Three> {
    let act = act(activation)?;
    let (dx, sums) = with_parts([x, dy, gamma, beta], |on, [x, dy, gamma, beta]| {
        let [mean, variance] = [on.clone_htod(statistics[0])?, on.clone_htod(statistics[1])?];
        let statistics = [on.view(&mean), on.view(&variance)];
        norm::backward(on, x, dy, [gamma, beta], statistics, epsilon, act, map)
    })?;
    let dx = if_tracked(dx, x)?;
    let on = x.device().as_cuda_device()?.clone();
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(sums, on));
    let sums = Tensor::from_storage(storage, (2, map.c), BackpropOp::none(), false);
    let row = |index: usize, like: &Tensor| sums.narrow(0, index, 1)?.reshape(like.shape());
    let dgamma = gamma.track_op().then(|| row(0, gamma)).transpose()?;
    let dbeta = beta.track_op().then(|| row(1, beta)).transpose()?;
    Ok((dx, dgamma, dbeta))
}

/// Runs a CLR layer with a norm. `affine` contains gamma and then beta.
pub(in crate::ops) fn site_norm(
    x: Given<'_>,
    kernel: Given<'_>,
    affine: Given<'_>,
    epsilon: f32,
    activation: Option<Activation>,
    map: Map,
) -> Result<((CudaStorage, Shape), ChannelStatistics)> {
    let on = &x.0.device;
    let affine = part(affine)?;
    let affine = [affine.part(0, map.c), affine.part(map.c, map.c)];
    let normal = site::norm_forward(on, part(x)?, part(kernel)?, affine, epsilon, act(activation)?, map)?;
    let (y, statistics) = published(on, normal, map)?;
    Ok((result(y, on, of_map(map)), statistics))
}

pub(in crate::ops) fn site_norm_backward(
    x: &Tensor,
    kernel: &Tensor,
    affine: &Tensor,
    dy: &Tensor,
    statistics: [&[f32]; 2],
    epsilon: f32,
    activation: Option<Activation>,
    map: Map,
) -> Result<Three> {
    let act = act(activation)?;
    let wanted = Wanted {
        x: x.track_op(),
        weights: kernel.track_op(),
    };
    let (gradients, sums) = with_parts([x, dy, kernel, affine], |on, [x, dy, kernel, affine]| {
        let [mean, variance] = [on.clone_htod(statistics[0])?, on.clone_htod(statistics[1])?];
        let statistics = [on.view(&mean), on.view(&variance)];
        let affine = [affine.part(0, map.c), affine.part(map.c, map.c)];
        site::norm_backward(on, x, dy, kernel, affine, statistics, epsilon, act, map, wanted)
    })?;
    let dk = maybe_like(gradients.weights.map(|[dk, _]| dk), kernel)?;
    let da = if_tracked(sums, affine)?;
    Ok((maybe_like(gradients.x, x)?, dk, da))
}
