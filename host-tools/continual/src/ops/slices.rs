//! Values of tensors on the CPU.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

/// Returns the values of a contiguous argument of the operator `op`.
pub(super) fn contiguous<'a>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// Calls `read` with the values of a tensor on the CPU.
pub(super) fn with_values<T>(op: &'static str, tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(contiguous(op, storage, layout)?),
        _ => candle_core::bail!("{op}: expected a tensor on the cpu"),
    }
}
