//! 8-bit integers in place of floats: the grid of a value, and the weights of a convolution.

use std::{borrow::Cow, sync::Arc};

use crate::Tensor;

/// A uniform grid of 256 values: the real value of byte `q` is `(q − zero_point) · scale` (ONNX `QuantizeLinear` and
/// `DequantizeLinear` with `uint8`, opset 13). A grid of `int8` is the same with both integers larger by 128.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantisation {
    /// The distance between two values; positive, finite and normal.
    pub scale: f32,
    /// The byte of the real value 0.
    pub zero_point: u8,
}

impl Quantisation {
    /// Returns the byte of a real value: `round(x / scale) + zero_point`, saturated. Ties are rounded to even.
    #[must_use]
    pub fn byte(self, x: f32) -> u8 {
        let rounded = (x / self.scale).round_ties_even();
        // Conversions of floats saturate, and NaN becomes 0.
        (rounded + f32::from(self.zero_point)) as u8
    }

    /// Returns the real value of a byte.
    #[must_use]
    pub fn real(self, byte: u8) -> f32 {
        f32::from(i16::from(byte) - i16::from(self.zero_point)) * self.scale
    }

    /// Returns the nearest value of the grid.
    #[must_use]
    pub fn round(self, x: f32) -> f32 {
        self.real(self.byte(x))
    }

    /// Returns the least and the largest value of the grid.
    #[must_use]
    pub fn range(self) -> [f32; 2] {
        [self.real(0), self.real(u8::MAX)]
    }

    /// Checks the scale. The error states the reason.
    pub(crate) fn check(self) -> Result<(), String> {
        if self.scale.is_normal() && self.scale > 0.0 && self.range().iter().all(|end| end.is_finite()) {
            Ok(())
        } else {
            Err(format!("scale: expected a positive finite number, got {}", self.scale))
        }
    }
}

/// Returns the real value of an integer bias (ONNX `DequantizeLinear` with `int32`, opset 13).
pub(crate) fn dequantised(integer: i64, step: f32) -> f32 {
    (integer as f64 * f64::from(step)) as f32
}

/// Integer weights, symmetric around zero, with one scale for each index of the first axis: the real value of `q` is
/// `q · scale` (ONNX `DequantizeLinear` with `int8`, axis 0 and zero point 0, opset 13). Clones share the values.
#[derive(Clone, PartialEq)]
pub struct QuantisedTensor {
    shape: Vec<usize>,
    values: Arc<[i8]>,
    scale: Arc<[f32]>,
}

impl QuantisedTensor {
    /// Returns a tensor of `shape` from row-major integers and one scale for each index of the first axis.
    ///
    /// # Panics
    /// If the lengths do not fit the shape. This is a programming error; no input file can cause it.
    pub fn new(shape: impl Into<Vec<usize>>, values: impl Into<Arc<[i8]>>, scale: impl Into<Arc<[f32]>>) -> Self {
        let (shape, values, scale) = (shape.into(), values.into(), scale.into());
        let fits = shape.iter().product::<usize>() == values.len() && shape.first() == Some(&scale.len());
        assert!(fits, "integers or scales do not fill shape {shape:?}");
        Self { shape, values, scale }
    }

    /// Returns the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the integers, row-major.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// Returns the scale of each index of the first axis.
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// Returns the integers of each index of the first axis, with their scale.
    pub fn rows(&self) -> impl Iterator<Item = (&[i8], f32)> {
        let row = (self.values.len() / self.scale.len().max(1)).max(1);
        self.values.chunks_exact(row).zip(self.scale.iter().copied())
    }

    /// Returns the real values, row-major.
    pub fn dequantised(&self) -> Vec<f32> {
        let rows = self.rows();
        rows.flat_map(|(row, scale)| row.iter().map(move |&value| f32::from(value) * scale))
            .collect()
    }
}

impl std::fmt::Debug for QuantisedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QuantisedTensor{:?}", self.shape)
    }
}

/// The weights of a convolution, `[O, I / group, kh, kw]`.
#[derive(Clone, Debug, PartialEq)]
pub enum ConvWeight {
    /// Floats.
    Float(Tensor),
    /// 8-bit integers with a scale for each output channel.
    Int8(QuantisedTensor),
}

impl ConvWeight {
    /// Returns the dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(tensor) => tensor.shape(),
            Self::Int8(tensor) => tensor.shape(),
        }
    }

    /// Returns the number of weights.
    pub fn count(&self) -> usize {
        self.shape().iter().product()
    }

    /// Returns the real values, row-major. Those of integers are computed by each call.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Float(tensor) => Cow::Borrowed(tensor.data()),
            Self::Int8(tensor) => Cow::Owned(tensor.dequantised()),
        }
    }

    /// Returns the real values as a tensor.
    pub fn tensor(&self) -> Tensor {
        match self {
            Self::Float(tensor) => tensor.clone(),
            Self::Int8(tensor) => Tensor::new(tensor.shape(), tensor.dequantised()),
        }
    }

    /// Returns the integers, if the weights are quantised.
    pub fn int8(&self) -> Option<&QuantisedTensor> {
        match self {
            Self::Float(_) => None,
            Self::Int8(tensor) => Some(tensor),
        }
    }
}

impl From<Tensor> for ConvWeight {
    fn from(tensor: Tensor) -> Self {
        Self::Float(tensor)
    }
}

impl From<QuantisedTensor> for ConvWeight {
    fn from(tensor: QuantisedTensor) -> Self {
        Self::Int8(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_rounded_to_the_nearest_byte_with_ties_to_even_and_saturates() {
        let grid = Quantisation {
            scale: 0.5,
            zero_point: 10,
        };
        for (x, byte) in [
            (0.0, 10),
            (0.25, 10),
            (0.75, 12),
            (-0.25, 10),
            (-0.75, 8),
            (1.0, 12),
            (-1e9, 0),
            (1e9, 255),
        ] {
            assert_eq!(grid.byte(x), byte, "{x}");
        }
        assert_eq!(grid.byte(f32::NAN), 0);
        assert_eq!(grid.range(), [-5.0, 122.5]);
    }

    #[test]
    fn every_byte_is_the_byte_of_its_real_value() {
        for scale in [1.0 / 128.0, 0.023_528, 1e-30, 3e30] {
            for zero_point in [0, 1, 127, 255] {
                let grid = Quantisation { scale, zero_point };
                assert!(grid.check().is_ok());
                assert!((0..=255).all(|byte| grid.byte(grid.real(byte)) == byte), "{grid:?}");
            }
        }
    }

    #[test]
    fn scales_that_make_no_grid_are_refused() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0, f32::MAX] {
            let grid = Quantisation { scale, zero_point: 0 };
            assert!(grid.check().is_err(), "{scale}");
        }
    }

    #[test]
    fn integers_have_one_scale_for_each_output_channel() {
        let tensor = QuantisedTensor::new([2, 1, 1, 2], vec![1_i8, -2, 3, -127], vec![0.5, 2.0]);
        assert_eq!(tensor.dequantised(), [0.5, -1.0, 6.0, -254.0]);
        assert_eq!(
            ConvWeight::from(tensor.clone()).values(),
            [0.5, -1.0, 6.0, -254.0].as_slice()
        );
        assert_eq!(tensor.rows().count(), 2);
    }
}
