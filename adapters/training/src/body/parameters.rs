//! Sites' parameters between candle's tensors and blocks of sixteen channels.

use candle_core::{Result, Tensor};
use clr_kernels::{AFFINE_PARAMETERS, LANES, Post};

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
        let taps = post.parameters() / LANES - 1;
        let mut blocks = vec![0.0; channels.div_ceil(LANES) * post.parameters()];
        for (channel, (weights, &bias)) in weights.chunks_exact(taps).zip(&bias).enumerate() {
            let block = &mut blocks[channel / LANES * post.parameters()..];
            for (tap, &weight) in weights.iter().enumerate() {
                block[tap * LANES + channel % LANES] = weight;
            }
            block[taps * LANES + channel % LANES] = bias;
        }
        Ok(Self {
            blocks,
            post,
            trained,
            channels,
        })
    }

    /// From gradients in the layout of `blocks` to those of weights and bias.
    pub(crate) fn unblock(&self, sums: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let taps = self.post.parameters() / LANES - 1;
        let at =
            |channel: usize, tap: usize| sums[channel / LANES * self.post.parameters() + tap * LANES + channel % LANES];
        let weights = (0..self.channels).flat_map(|channel| (0..taps).map(move |tap| (channel, tap)));
        (
            weights.map(|(channel, tap)| at(channel, tap)).collect(),
            (0..self.channels).map(|channel| at(channel, taps)).collect(),
        )
    }
}

/// `[scale 16, bias 16]` per block.
pub(super) fn affine_blocks(scale: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut blocks = vec![0.0; scale.len().div_ceil(LANES) * AFFINE_PARAMETERS];
    for (channel, (&scale, &bias)) in scale.iter().zip(bias).enumerate() {
        let block = &mut blocks[channel / LANES * AFFINE_PARAMETERS..];
        block[channel % LANES] = scale;
        block[LANES + channel % LANES] = bias;
    }
    blocks
}
