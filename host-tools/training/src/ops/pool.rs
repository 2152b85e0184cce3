//! Pooling with any window.

use candle_core::{Result, Tensor};
use clr_onnx::Pool;

#[cfg(feature = "cuda")]
use super::cuda::operators as cuda;
use super::{arguments::map_of, plain};
use crate::sizes::{Map, PoolWindow};

/// Returns the window and the result's sizes.
pub(super) fn sizes(op: &str, pool: &Pool, from: Map) -> Result<(PoolWindow, Map)> {
    let size = [from.h, from.w];
    if pool.kernel.iter().chain(&pool.stride).any(|&size| size == 0) {
        candle_core::bail!(
            "{op}: expected a window and a stride above zero, got {:?} and {:?}",
            pool.kernel,
            pool.stride
        );
    }
    let window = PoolWindow {
        kernel: pool.kernel,
        stride: pool.stride,
        pads: pool.padding.resolve(size, pool.kernel, pool.stride, [1, 1]),
        ceil: pool.ceil,
        count_pad: pool.count_include_pad,
    };
    match window.output(size) {
        Some([h, w]) => Ok((window, Map { h, w, ..from })),
        None => candle_core::bail!(
            "{op}: window {:?} does not fit an input of {size:?} padded by {:?}",
            pool.kernel,
            window.pads
        ),
    }
}

/// Computes the maximum over windows (ONNX `MaxPool`): `[N, C, H, W]` to `[N, C, H', W']`. Padding is never the
/// maximum. Gradient: x.
///
/// # Errors
/// Returns candle's error if the window does not fit, or if it has more than 65,535 positions.
pub fn max_pool(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let (window, to) = sizes("max pool", pool, map_of("max pool", x)?)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op1(cuda::MaxPool {
            pool: *pool,
            keep: x.track_op(),
        });
    }
    plain::max_pool(x, window, [to.h, to.w])
}

/// Computes the mean over windows (ONNX `AveragePool`): `[N, C, H, W]` to `[N, C, H', W']`. Gradient: x.
///
/// # Errors
/// Returns candle's error if the window does not fit.
pub fn average_pool(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let (window, to) = sizes("average pool", pool, map_of("average pool", x)?)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op1(cuda::AveragePool(*pool));
    }
    plain::average_pool(x, window, [to.h, to.w])
}

/// Computes the mean of every plane (ONNX `GlobalAveragePool`): `[N, C, H, W]` to `[N, C, 1, 1]`. Gradient: x.
///
/// # Errors
/// Returns candle's error if x is not a map.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    map_of("global average pool", x)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return x.contiguous()?.apply_op1(cuda::GlobalAveragePool);
    }
    x.mean_keepdim((2, 3))
}
