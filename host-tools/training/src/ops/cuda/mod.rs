//! Operators on candle's CUDA device: conversion between tensors and kernel arguments.

mod norm;
pub(super) mod operators;

use crate::cuda::arguments::Act;
use crate::cuda::backend::View;
use crate::cuda::conv::{self, Convolution};
use crate::cuda::device;
use crate::cuda::elementwise as each;
use crate::cuda::pool;
use crate::cuda::site::{self, Wanted};
use crate::sizes::Map;
use crate::sizes::PoolWindow as Window;
use candle_core::cuda::cudarc::driver::CudaSlice;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor};
use clr_onnx::Activation;

pub(super) use norm::{batch_norm, batch_norm_backward, site_norm, site_norm_backward};

type Buffer = CudaSlice<f32>;

/// An argument of `cuda_fwd`.
pub(in crate::ops) type Given<'a> = (&'a CudaStorage, &'a Layout);

fn part((storage, layout): Given<'_>) -> Result<View<'_, CudaDevice>> {
    device::part_of(storage, layout)
}

fn result(buffer: Buffer, on: &CudaDevice, shape: impl Into<Shape>) -> (CudaStorage, Shape) {
    (CudaStorage::wrap_cuda_slice(buffer, on.clone()), shape.into())
}

fn of_map(map: Map) -> (usize, usize, usize, usize) {
    (map.n, map.c, map.h, map.w)
}

/// Returns the kernels' form of an activation.
fn act(activation: Option<Activation>) -> Result<Act> {
    match Act::new(activation) {
        Some(act) => Ok(act),
        None => candle_core::bail!("activation {activation:?} has no CUDA kernel"),
    }
}

/// Runs `f` with the device and the values of tensors, which must all be f32 on that device.
fn with_parts<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce(&CudaDevice, [View<'_, CudaDevice>; N]) -> Result<R>,
) -> Result<R> {
    let tensors: Vec<Tensor> = tensors
        .iter()
        .map(|tensor| tensor.contiguous())
        .collect::<Result<_>>()?;
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut parts = Vec::with_capacity(N);
    let mut on = None;
    for (storage, layout) in &guards {
        let Storage::Cuda(storage) = &**storage else {
            candle_core::bail!("expected tensors on one CUDA device, got one on another device");
        };
        on = on.or(Some(&storage.device));
        parts.push(device::part_of(storage, layout)?);
    }
    match (on, <[View<'_, CudaDevice>; N]>::try_from(parts)) {
        (Some(on), Ok(parts)) => f(on, parts),
        _ => candle_core::bail!("expected at least one tensor"),
    }
}

/// Returns a tensor with the shape of `like` from a buffer with as many values.
fn tensor_like(buffer: Buffer, like: &Tensor) -> Result<Tensor> {
    let on = like.device().as_cuda_device()?.clone();
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(buffer, on));
    Ok(Tensor::from_storage(
        storage,
        like.shape().clone(),
        BackpropOp::none(),
        false,
    ))
}

/// Returns a gradient for `like`, if gradients are tracked for it.
fn if_tracked(buffer: Buffer, like: &Tensor) -> Result<Option<Tensor>> {
    like.track_op().then(|| tensor_like(buffer, like)).transpose()
}

fn maybe_like(buffer: Option<Buffer>, like: &Tensor) -> Result<Option<Tensor>> {
    buffer.map(|buffer| tensor_like(buffer, like)).transpose()
}

pub(in crate::ops) fn activation(x: Given<'_>, activation: Activation) -> Result<(CudaStorage, Shape)> {
    let (on, shape) = (&x.0.device, x.1.shape());
    let y = each::activate(on, part(x)?, act(Some(activation))?, shape.elem_count())?;
    Ok(result(y, on, shape.clone()))
}

pub(in crate::ops) fn activation_backward(x: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    let act = act(Some(activation))?;
    let dx = with_parts([x, dy], |on, [x_values, dy]| {
        each::activate_input(on, x_values, dy, act, x.elem_count())
    })?;
    tensor_like(dx, x)
}

pub(in crate::ops) fn add(a: Given<'_>, b: Given<'_>, activation: Option<Activation>) -> Result<(CudaStorage, Shape)> {
    let (on, shape) = (&a.0.device, a.1.shape());
    let y = each::add(on, part(a)?, part(b)?, act(activation)?, shape.elem_count())?;
    Ok(result(y, on, shape.clone()))
}

pub(in crate::ops) fn add_backward(
    a: &Tensor,
    b: &Tensor,
    dy: &Tensor,
    activation: Option<Activation>,
) -> Result<Tensor> {
    let act = act(activation)?;
    let gradient = with_parts([a, b, dy], |on, [a_values, b, dy]| {
        each::add_input(on, a_values, b, dy, act, a.elem_count())
    })?;
    tensor_like(gradient, a)
}

pub(in crate::ops) fn prelu(x: Given<'_>, slope: Given<'_>, map: Map) -> Result<(CudaStorage, Shape)> {
    let on = &x.0.device;
    Ok(result(each::prelu(on, part(x)?, part(slope)?, map)?, on, of_map(map)))
}

pub(in crate::ops) fn prelu_backward(
    x: &Tensor,
    slope: &Tensor,
    dy: &Tensor,
    map: Map,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (dx, ds) = with_parts([x, slope, dy], |on, [x_values, slope_values, dy]| {
        let dx = x
            .track_op()
            .then(|| each::prelu_input(on, x_values, slope_values, dy, map));
        let ds = slope.track_op().then(|| each::prelu_sums(on, x_values, dy, map));
        Ok((dx.transpose()?, ds.transpose()?))
    })?;
    Ok((maybe_like(dx, x)?, maybe_like(ds, slope)?))
}

pub(in crate::ops) fn affine(
    x: Given<'_>,
    scale: Given<'_>,
    shift: Given<'_>,
    activation: Option<Activation>,
    map: Map,
) -> Result<(CudaStorage, Shape)> {
    let on = &x.0.device;
    let y = each::affine(on, part(x)?, part(scale)?, part(shift)?, act(activation)?, map)?;
    Ok(result(y, on, of_map(map)))
}

/// The gradients of the three arguments of an operator.
type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

pub(in crate::ops) fn affine_backward(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    dy: &Tensor,
    activation: Option<Activation>,
    map: Map,
) -> Result<Three> {
    let act = act(activation)?;
    let (dx, sums) = with_parts([x, dy, scale, shift], |on, [x_values, dy, by, plus]| {
        let dx = x
            .track_op()
            .then(|| each::affine_input(on, x_values, dy, by, plus, act, map));
        let wanted = scale.track_op() || shift.track_op();
        let sums = wanted.then(|| each::affine_sums(on, x_values, dy, by, plus, act, map));
        Ok((dx.transpose()?, sums.transpose()?))
    })?;
    let (ds, db) = tracked(sums, scale, shift)?;
    Ok((maybe_like(dx, x)?, ds, db))
}

/// Returns two gradients, each only if gradients are tracked for its tensor.
fn tracked(sums: Option<[Buffer; 2]>, a: &Tensor, b: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let Some([da, db]) = sums else { return Ok((None, None)) };
    let da = if_tracked(da, a)?;
    Ok((da, if_tracked(db, b)?))
}

pub(in crate::ops) fn site(
    x: Given<'_>,
    kernel: Given<'_>,
    bias: Option<Given<'_>>,
    activation: Option<Activation>,
    map: Map,
) -> Result<(CudaStorage, Shape)> {
    let (on, bias) = (&x.0.device, bias.map(part).transpose()?);
    let y = site::forward(on, part(x)?, part(kernel)?, bias, act(activation)?, map)?;
    Ok(result(y, on, of_map(map)))
}

pub(in crate::ops) fn site_backward(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    dy: &Tensor,
    activation: Option<Activation>,
    map: Map,
) -> Result<Three> {
    let act = act(activation)?;
    let wanted = Wanted {
        x: x.track_op(),
        weights: kernel.track_op() || bias.is_some_and(Tensor::track_op),
    };
    // Without a bias, another tensor is passed in its place.
    let gradients = with_parts([x, kernel, bias.unwrap_or(kernel), dy], |on, [x, kernel, shift, dy]| {
        site::backward(on, x, kernel, bias.map(|_| shift), act, dy, map, wanted)
    })?;
    let dx = maybe_like(gradients.x, x)?;
    let (dk, db) = match bias {
        Some(bias) => tracked(gradients.weights, kernel, bias)?,
        None => (maybe_like(gradients.weights.map(|[dk, _]| dk), kernel)?, None),
    };
    Ok((dx, dk, db))
}

pub(in crate::ops) fn max_pool(x: Given<'_>, from: Map, window: Window, to: Map) -> Result<(CudaStorage, Shape)> {
    let on = &x.0.device;
    let (y, _) = pool::max(on, part(x)?, from, window, to)?;
    Ok(result(y, on, of_map(to)))
}

pub(in crate::ops) fn max_pool_backward(x: &Tensor, dy: &Tensor, from: Map, window: Window, to: Map) -> Result<Tensor> {
    let dx = with_parts([x, dy], |on, [x, dy]| pool::max_input(on, x, dy, from, window, to))?;
    tensor_like(dx, x)
}

pub(in crate::ops) fn average_pool(x: Given<'_>, from: Map, window: Window, to: Map) -> Result<(CudaStorage, Shape)> {
    let on = &x.0.device;
    Ok(result(pool::average(on, part(x)?, from, window, to)?, on, of_map(to)))
}

pub(in crate::ops) fn average_pool_backward(
    x: &Tensor,
    dy: &Tensor,
    from: Map,
    window: Window,
    to: Map,
) -> Result<Tensor> {
    let dx = with_parts([dy], |on, [dy]| pool::average_input(on, dy, from, window, to))?;
    tensor_like(dx, x)
}

pub(in crate::ops) fn global_average_pool(x: Given<'_>, map: Map) -> Result<(CudaStorage, Shape)> {
    let on = &x.0.device;
    Ok(result(pool::global(on, part(x)?, map)?, on, (map.n, map.c, 1, 1)))
}

pub(in crate::ops) fn global_average_pool_backward(x: &Tensor, dy: &Tensor, map: Map) -> Result<Tensor> {
    let dx = with_parts([dy], |on, [dy]| pool::global_input(on, dy, map))?;
    tensor_like(dx, x)
}

/// Runs a convolution. `weight` is on the device and flat.
pub(in crate::ops) fn convolution(x: Given<'_>, weight: &Tensor, conv: Convolution) -> Result<(CudaStorage, Shape)> {
    let y = with_parts([weight], |on, [weight]| conv::forward(on, part(x)?, weight, conv))?;
    Ok(result(y, &x.0.device, of_map(conv.to)))
}

pub(in crate::ops) fn convolution_backward(
    x: &Tensor,
    dy: &Tensor,
    weight: &Tensor,
    conv: Convolution,
) -> Result<Tensor> {
    let dx = with_parts([dy, weight], |on, [dy, weight]| conv::backward(on, dy, weight, conv))?;
    tensor_like(dx, x)
}
