//! Parameters of a CLR site in blocks of sixteen channels.

use std::sync::Arc;

use clr_kernels::{Epilogue, pack_parameters, unpack_parameters};

/// The epilogue of one convolution, with the norm folded in. Clones share the values.
#[derive(Clone, Debug)]
pub struct SiteParameters {
    /// Per block: `[9 taps][16]` and bias `[16]`, or scale `[16]` and bias `[16]`.
    pub(crate) blocks: Arc<[f32]>,
    pub(crate) epilogue: Epilogue,
    pub(crate) trained: bool,
    pub(crate) channels: usize,
}

impl SiteParameters {
    /// Creates a CLR layer from depthwise 3×3 kernels `[C, 3, 3]` and biases `[C]`.
    pub fn kernel(weights: &[f32], bias: &[f32]) -> Self {
        Self::new(Epilogue::Kernel, weights, bias)
    }

    /// A scale `[C]` and a bias `[C]` per channel.
    pub fn scale(weights: &[f32], bias: &[f32]) -> Self {
        Self::new(Epilogue::Affine, weights, bias)
    }

    fn new(epilogue: Epilogue, weights: &[f32], bias: &[f32]) -> Self {
        Self {
            blocks: pack_parameters(weights, bias).into(),
            epilogue,
            trained: false,
            channels: bias.len(),
        }
    }

    /// The same, with or without a gradient.
    #[must_use]
    pub fn with_gradient(mut self, trained: bool) -> Self {
        self.trained = trained;
        self
    }

    /// Returns whether training needs the gradient of these parameters.
    pub fn is_trained(&self) -> bool {
        self.trained
    }

    /// Returns whether both are clones of the same parameters.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.blocks, &other.blocks)
    }

    /// Returns the number of values in blocks, of the parameters and of their gradient.
    pub fn block_len(&self) -> usize {
        self.blocks.len()
    }

    /// Converts values in blocks, such as a gradient, to weights (`[C, 3, 3]` or `[C]`) and biases `[C]`.
    pub fn unpack(&self, blocks: &[f32]) -> (Vec<f32>, Vec<f32>) {
        unpack_parameters(blocks, self.channels)
    }
}
