//! Steps of a quantised backbone that compute on bytes.
//!
//! A value on a grid is stored as bytes in blocks, `[⌈C / 16⌉, H, W, 16]`, where a step computes it so and another one reads
//! it so. Buffers hold f32, and four bytes take the place of one. Between bytes and real values there are steps that
//! convert, which change no value.

mod convolution;
mod operators;

pub(crate) use convolution::{IntegerConv, Result, sums_fit};
pub(crate) use operators::{AddBytes, Dequantise, GatherBytes, Lookup, MeanOfBytes, PoolBytes, Quantise};

use clr_kernels::{Bounds, Rounding};
use clr_onnx::Quantisation;

/// The form in which a value is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stored {
    /// f32 in blocks.
    Real,
    /// The image's own pixels, f32, `[H, W, C]`.
    Pixels,
    /// Bytes in blocks.
    Bytes(Quantisation),
    /// Bytes of the image, `[H, W, 4]`.
    PixelBytes(Quantisation),
}

impl Stored {
    /// Returns the grid of bytes in blocks.
    pub(crate) fn bytes(self) -> Option<Quantisation> {
        match self {
            Self::Bytes(grid) => Some(grid),
            _ => None,
        }
    }
}

/// Returns the number of f32 of a buffer for this many bytes.
pub(crate) fn values(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<f32>())
}

/// Returns the bytes in a buffer.
pub(crate) fn bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Returns the bytes in a buffer, for writing.
pub(crate) fn bytes_mut(values: &mut [f32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(values)
}

/// Returns the rounding to `grid` after a clamp to `bounds`. Rounding keeps the order of values, so the clamp of the rounded
/// value to the rounded bounds is the same.
pub(crate) fn rounding(grid: Quantisation, bounds: Bounds) -> Rounding {
    Rounding {
        zero_point: grid.zero_point,
        low: grid.byte(bounds.low),
        high: grid.byte(bounds.high),
    }
}
