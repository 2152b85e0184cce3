//! Candle's custom operators around the CUDA kernels. On the CPU, plain candle computes the same functions.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use clr_learning::ChannelStatistics;
use clr_onnx::{Activation, Pool};

use super::{self as kernels};
use crate::{
    cuda::{
        arguments::Act,
        conv::{Convolution, MAX_COLUMNS},
    },
    ops::{FrozenConv, arguments::map_of, pool::sizes},
    sizes::Map,
};

/// Returns whether the kernels support the activation.
pub(in crate::ops) fn knows(activation: Activation) -> bool {
    Act::new(Some(activation)).is_some()
}

/// Returns the error of the CPU implementation of every operator, which is never called.
fn on_the_cpu<T>(name: &str) -> Result<T> {
    bail!("{name}: made for a cuda device, got an input on the cpu")
}

/// Returns the sizes of an NCHW shape that has been checked before.
fn map_of_layout(layout: &Layout) -> Result<Map> {
    let (n, c, h, w) = layout.shape().dims4()?;
    Ok(Map { n, c, h, w })
}

pub(in crate::ops) struct Activate(pub(in crate::ops) Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        kernels::activation((x, layout), self.0)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        kernels::activation_backward(x, dy, self.0).map(Some)
    }
}

pub(in crate::ops) struct AddActivation(pub(in crate::ops) Option<Activation>);

impl CustomOp2 for AddActivation {
    fn name(&self) -> &'static str {
        "add-activation"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, a: &CudaStorage, la: &Layout, b: &CudaStorage, lb: &Layout) -> Result<(CudaStorage, Shape)> {
        kernels::add((a, la), (b, lb), self.0)
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = if self.0.is_none() {
            dy.clone()
        } else {
            kernels::add_backward(a, b, dy, self.0)?
        };
        Ok((a.track_op().then(|| gradient.clone()), b.track_op().then_some(gradient)))
    }
}

pub(in crate::ops) struct PRelu;

impl CustomOp2 for PRelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, slope: &CudaStorage, ls: &Layout) -> Result<(CudaStorage, Shape)> {
        kernels::prelu((x, lx), (slope, ls), map_of_layout(lx)?)
    }

    fn bwd(&self, x: &Tensor, slope: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        kernels::prelu_backward(x, slope, dy, map_of(self.name(), x)?)
    }
}

pub(in crate::ops) struct ScaleShift {
    pub(in crate::ops) act: Option<Activation>,
}

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        scale: &CudaStorage,
        ls: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        kernels::affine((x, lx), (scale, ls), (bias, lb), self.act, map_of_layout(lx)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        kernels::affine_backward(x, scale, bias, dy, self.act, map_of(self.name(), x)?)
    }
}

pub(in crate::ops) struct Depthwise;

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "clr-depthwise"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        kernel: &CudaStorage,
        lk: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        kernels::site((x, lx), (kernel, lk), None, None, map_of_layout(lx)?)
    }

    fn bwd(&self, x: &Tensor, kernel: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dk, _) = kernels::site_backward(x, kernel, None, dy, None, map_of(self.name(), x)?)?;
        Ok((dx, dk))
    }
}

pub(in crate::ops) struct Site {
    pub(in crate::ops) act: Option<Activation>,
}

impl CustomOp3 for Site {
    fn name(&self) -> &'static str {
        "clr-site"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        kernel: &CudaStorage,
        lk: &Layout,
        bias: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        kernels::site((x, lx), (kernel, lk), Some((bias, lb)), self.act, map_of_layout(lx)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        kernels::site_backward(x, kernel, Some(bias), dy, self.act, map_of(self.name(), x)?)
    }
}

/// Batch statistics from the forward pass, for the backward pass and the caller.
type Published = Arc<OnceLock<ChannelStatistics>>;

fn published(statistics: &Published) -> Result<ChannelStatistics> {
    match statistics.get() {
        Some(statistics) => Ok(statistics.clone()),
        None => bail!("batch norm: no statistics were computed"),
    }
}

/// Implements [`batch_norm`](crate::ops::batch_norm) for checked arguments.
pub(in crate::ops) fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, ChannelStatistics)> {
    BatchNorm::apply(x, [gamma, beta], false, eps, act)
}

/// Implements [`clr_batch_norm`](crate::ops::clr_batch_norm) for checked arguments. `affine` contains gamma and then
/// beta, `[2 · C]`. The map between the two operators is not stored.
pub(in crate::ops) fn clr_batch_norm(
    x: &Tensor,
    kernel: &Tensor,
    affine: &Tensor,
    eps: f32,
    act: Option<Activation>,
) -> Result<(Tensor, ChannelStatistics)> {
    BatchNorm::apply(x, [kernel, affine], true, eps, act)
}

/// A norm with the batch's statistics, alone or after a CLR layer.
struct BatchNorm {
    /// Whether the arguments are the layer's kernel and the affine parameters; otherwise they are gamma and beta.
    after_kernel: bool,
    eps: f32,
    act: Option<Activation>,
    statistics: Published,
}

impl BatchNorm {
    fn apply(
        x: &Tensor,
        [first, second]: [&Tensor; 2],
        after_kernel: bool,
        eps: f32,
        act: Option<Activation>,
    ) -> Result<(Tensor, ChannelStatistics)> {
        let statistics = Published::default();
        let op = Self {
            after_kernel,
            eps,
            act,
            statistics: Arc::clone(&statistics),
        };
        let y = x.contiguous()?.apply_op3(first, second, op)?;
        Ok((y, published(&statistics)?))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        if self.after_kernel {
            "clr-batch-norm"
        } else {
            "batch-norm"
        }
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        first: &CudaStorage,
        l1: &Layout,
        second: &CudaStorage,
        l2: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let run = if self.after_kernel {
            kernels::site_norm
        } else {
            kernels::batch_norm
        };
        let map = map_of_layout(lx)?;
        let (y, batch) = run((x, lx), (first, l1), (second, l2), self.eps, self.act, map)?;
        self.statistics.get_or_init(|| batch);
        Ok(y)
    }

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let run = if self.after_kernel {
            kernels::site_norm_backward
        } else {
            kernels::batch_norm_backward
        };
        let map = map_of(self.name(), x)?;
        let statistics = published(&self.statistics)?;
        let statistics = [&statistics.mean[..], &statistics.variance[..]];
        run(x, first, second, dy, statistics, self.eps, self.act, map)
    }
}

pub(in crate::ops) struct MaxPool {
    pub(in crate::ops) pool: Pool,
    /// Whether a gradient is needed.
    pub(in crate::ops) keep: bool,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.pool, from)?;
        kernels::max_pool((x, layout), from, window, to)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !self.keep {
            return Ok(None);
        }
        let from = map_of(self.name(), x)?;
        let (window, to) = sizes(self.name(), &self.pool, from)?;
        kernels::max_pool_backward(x, dy, from, window, to).map(Some)
    }
}

pub(in crate::ops) struct AveragePool(pub(in crate::ops) Pool);

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average-pool"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = sizes(self.name(), &self.0, from)?;
        kernels::average_pool((x, layout), from, window, to)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let from = map_of(self.name(), x)?;
        let (window, to) = sizes(self.name(), &self.0, from)?;
        kernels::average_pool_backward(x, dy, from, window, to).map(Some)
    }
}

pub(in crate::ops) struct GlobalAveragePool;

impl CustomOp1 for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global-average-pool"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        kernels::global_average_pool((x, layout), map_of_layout(layout)?)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        kernels::global_average_pool_backward(x, dy, map_of(self.name(), x)?).map(Some)
    }
}

pub(in crate::ops) struct Convolve(pub(in crate::ops) FrozenConv);

impl Convolve {
    fn convolution(&self, from: Map) -> Result<Convolution> {
        let (window, to) = self.0.0.sizes(from)?;
        Ok(Convolution {
            window,
            groups: self.0.0.conv.group,
            from,
            to,
            max_columns: MAX_COLUMNS,
        })
    }
}

impl CustomOp1 for Convolve {
    fn name(&self) -> &'static str {
        "frozen-conv"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        on_the_cpu(self.name())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        kernels::convolution((x, layout), &self.0.0.weight, self.convolution(map_of_layout(layout)?)?)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let convolution = self.convolution(map_of(self.name(), x)?)?;
        kernels::convolution_backward(x, dy, &self.0.0.weight, convolution).map(Some)
    }
}
