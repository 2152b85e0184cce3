//! From candle tensors to slices and back.

use crate::kernels::buffer::Map;
use candle_core::{CpuStorage, Error, Layout, Result, Shape, Storage, Tensor};

/// The values of a contiguous CPU storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(Error::RequiresContiguous { op: "clr" }.bt()),
    }
}

/// Runs `f` on a tensor's values; the tensor must be f32 on the CPU.
pub(super) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => candle_core::bail!("this operator has no gradient on {:?}", tensor.device().location()),
    }
}

/// Runs `f` on the values of two tensors.
pub(super) fn with_two<R>(a: &Tensor, b: &Tensor, f: impl FnOnce(&[f32], &[f32]) -> Result<R>) -> Result<R> {
    with_values(a, |a| with_values(b, |b| f(a, b)))
}

/// The sizes of an NCHW tensor.
pub(super) fn map_of(op: &'static str, tensor: &Tensor) -> Result<Map> {
    match *tensor.dims() {
        [n, c, h, w] => Ok(Map { n, c, h, w }),
        ref dims => candle_core::bail!("{op}: expected a map [N, C, H, W], got {dims:?}"),
    }
}

/// The sizes of an NCHW shape that has been checked before.
pub(super) fn map_of_layout(layout: &Layout) -> Result<Map> {
    let (n, c, h, w) = layout.shape().dims4()?;
    Ok(Map { n, c, h, w })
}

/// Checks that `tensor`, an argument called `name`, holds `expected` values, and makes it contiguous.
pub(super) fn vector(op: &'static str, name: &str, tensor: &Tensor, expected: usize) -> Result<Tensor> {
    if tensor.elem_count() != expected {
        candle_core::bail!("{op}: expected {expected} values of {name}, got {:?}", tensor.dims());
    }
    tensor.contiguous()
}

/// A CPU result.
pub(super) fn result(values: Vec<f32>, map: Map) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), Shape::from((map.n, map.c, map.h, map.w)))
}

/// A tensor like `like` from values of the same number.
pub(super) fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}

/// A gradient for `like`, if it wants one.
pub(super) fn if_tracked(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    like.track_op().then(|| tensor_like(values, like)).transpose()
}

#[cfg(test)]
mod tests {
    use super::with_values;
    use candle_core::{Device, Tensor};

    #[test]
    fn values_of_a_strided_tensor_are_read_in_order() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)
            .unwrap()
            .t()
            .unwrap();
        with_values(&x, |x| {
            assert_eq!(x, [1.0, 3.0, 2.0, 4.0]);
            Ok(())
        })
        .unwrap();
    }
}
