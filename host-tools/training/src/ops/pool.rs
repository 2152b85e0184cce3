//! Pooling with any window.

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{map_of, map_of_layout, result, slice, tensor_like, with_values};
use crate::kernels::{
    buffer::Map,
    pool::{self, Window},
};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use clr_onnx::Pool;
use std::sync::OnceLock;

/// The kernel's window for an input, and the output's sizes.
fn sizes(op: &str, pool: &Pool, from: Map) -> Result<(Window, Map)> {
    let size = [from.h, from.w];
    if pool.kernel.iter().chain(&pool.stride).any(|&size| size == 0) {
        candle_core::bail!(
            "{op}: expected a window and a stride above zero, got {:?} and {:?}",
            pool.kernel,
            pool.stride
        );
    }
    let window = Window {
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

/// Maximum over windows (ONNX `MaxPool`): `[N, C, H, W]` to `[N, C, H', W']`. Padding never wins. Gradient: x.
///
/// # Errors
/// If the window does not fit, or has more than 65,535 positions.
pub fn max_pool(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    if pool.kernel[0] * pool.kernel[1] >= usize::from(u16::MAX) {
        candle_core::bail!(
            "max pool: expected a window below 65535 positions, got {:?}",
            pool.kernel
        );
    }
    sizes("max pool", pool, map_of("max pool", x)?)?;
    x.contiguous()?.apply_op1(MaxPool {
        pool: *pool,
        keep: x.track_op(),
        winners: OnceLock::new(),
    })
}

struct MaxPool {
    pool: Pool,
    keep: bool,
    winners: OnceLock<Vec<u16>>,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.pool, from)?;
        let (y, winners) = pool::max(slice(x, layout)?, from, window, to);
        if self.keep {
            self.winners.get_or_init(|| winners);
        }
        Ok(result(y, to))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.pool, from)?;
        cuda::max_pool((x, layout), from, window, to)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() && self.keep {
            let from = map_of(self.name(), x)?;
            let (window, to) = sizes(self.name(), &self.pool, from)?;
            return cuda::max_pool_backward(x, dy, from, window, to).map(Some);
        }
        let Some(winners) = self.winners.get() else {
            return Ok(None);
        };
        let from = map_of(self.name(), x)?;
        let (window, to) = sizes(self.name(), &self.pool, from)?;
        let dx = with_values(dy, |dy| Ok(pool::max_backward(dy, winners, from, window, to)))?;
        tensor_like(dx, x).map(Some)
    }
}

/// Mean over windows (ONNX `AveragePool`): `[N, C, H, W]` to `[N, C, H', W']`. Gradient: x.
///
/// # Errors
/// If the window does not fit.
pub fn average_pool(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    sizes("average pool", pool, map_of("average pool", x)?)?;
    x.contiguous()?.apply_op1(AveragePool(*pool))
}

struct AveragePool(Pool);

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.0, from)?;
        Ok(result(pool::average(slice(x, layout)?, from, window, to), to))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.0, from)?;
        cuda::average_pool((x, layout), from, window, to)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let from = map_of(self.name(), x)?;
        let (window, to) = sizes(self.name(), &self.0, from)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::average_pool_backward(x, dy, from, window, to).map(Some);
        }
        let dx = with_values(dy, |dy| Ok(pool::average_backward(dy, from, window, to)))?;
        tensor_like(dx, x).map(Some)
    }
}

/// Mean of every plane (ONNX `GlobalAveragePool`): `[N, C, H, W]` to `[N, C, 1, 1]`. Gradient: x.
///
/// # Errors
/// If x is not a map.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    map_of("global average pool", x)?;
    x.contiguous()?.apply_op1(GlobalAveragePool)
}

struct GlobalAveragePool;

impl CustomOp1 for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global-average-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let to = Map { h: 1, w: 1, ..from };
        Ok(result(pool::global_average(slice(x, layout)?, from), to))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::global_average_pool((x, layout), map_of_layout(layout)?)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let map = map_of(self.name(), x)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::global_average_pool_backward(x, dy, map).map(Some);
        }
        let dx = with_values(dy, |dy| Ok(pool::global_average_backward(dy, map)))?;
        tensor_like(dx, x).map(Some)
    }
}
