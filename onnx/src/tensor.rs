//! A dense f32 tensor in host memory, shared without copying.

use std::sync::Arc;

/// Row-major f32 values with a shape. Clones share the data.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<[f32]>,
}

impl Tensor {
    /// Returns a tensor of `shape` from row-major `data`.
    ///
    /// # Panics
    /// If the data's length is not the product of the shape. This is a programming error; no input file can cause it.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[f32]>>) -> Self {
        let (shape, data) = (shape.into(), data.into());
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "tensor data does not fill shape {shape:?}"
        );
        Self { shape, data }
    }

    /// Returns the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Returns the values in shared ownership, without copying them.
    pub fn shared(&self) -> Arc<[f32]> {
        Arc::clone(&self.data)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}
