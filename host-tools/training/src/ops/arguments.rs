//! Checks of arguments.

use candle_core::{Result, Tensor};

use crate::sizes::Map;

/// Returns the sizes of an NCHW tensor.
pub(super) fn map_of(op: &'static str, tensor: &Tensor) -> Result<Map> {
    match *tensor.dims() {
        [n, c, h, w] => Ok(Map { n, c, h, w }),
        ref dims => candle_core::bail!("{op}: expected a map [N, C, H, W], got {dims:?}"),
    }
}

/// Checks that `tensor`, an argument named `name`, has `expected` values, and makes it contiguous.
pub(super) fn vector(op: &'static str, name: &str, tensor: &Tensor, expected: usize) -> Result<Tensor> {
    if tensor.elem_count() != expected {
        candle_core::bail!("{op}: expected {expected} values of {name}, got {:?}", tensor.dims());
    }
    tensor.contiguous()
}
