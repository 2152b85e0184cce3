//! Sites' parameters between candle's tensors and blocks of sixteen channels.

use candle_core::{Result, Tensor};
use clr_kernels::{Post, pack_parameters, unpack_parameters};

/// What stands behind one convolution, folded, in blocks.
pub(crate) struct SiteParameters {
    /// `[9 taps][16]`, bias `[16]`, or scale `[16]`, bias `[16]`, per block.
    pub(crate) blocks: Vec<f32>,
    pub(crate) post: Post,
    /// Whether its gradient is wanted.
    pub(crate) trained: bool,
    channels: usize,
}

impl SiteParameters {
    /// From the folded `weights`, `[C, 1, 3, 3]` or `[C]`, and `bias` `[C]`.
    pub(crate) fn new(weights: &Tensor, bias: &Tensor) -> Result<Self> {
        let trained = weights.track_op() || bias.track_op();
        let channels = bias.elem_count();
        let post = if weights.rank() == 4 {
            Post::Kernel
        } else {
            Post::Affine
        };
        let (weights, bias): (Vec<f32>, Vec<f32>) = (weights.flatten_all()?.to_vec1()?, bias.to_vec1()?);
        Ok(Self {
            blocks: pack_parameters(&weights, &bias),
            post,
            trained,
            channels,
        })
    }

    /// From gradients in the layout of `blocks` to those of weights and bias.
    pub(crate) fn unblock(&self, sums: &[f32]) -> (Vec<f32>, Vec<f32>) {
        unpack_parameters(sums, self.channels)
    }
}
