//! Scale and shift, and norms with a batch's statistics.

use candle_core::{Result, Tensor};

/// Computes `x · scale + bias` per channel: x `[N, C, H, W]`, scale and bias `[C]`.
pub(in crate::ops) fn affine(x: &Tensor, scale: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let per_channel = |values: &Tensor| values.reshape((1, values.elem_count(), 1, 1));
    x.broadcast_mul(&per_channel(scale)?)?
        .broadcast_add(&per_channel(bias)?)
}

/// Computes `gamma · (x − mean) / √(var + eps) + beta`, with the mean and biased variance `[C]` of this batch.
pub(in crate::ops) fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Result<(Tensor, [Tensor; 2])> {
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let normal = centred.broadcast_div(&(&variance + f64::from(eps))?.sqrt()?)?;
    let statistics = [mean.flatten_all()?.detach(), variance.flatten_all()?.detach()];
    Ok((affine(&normal, gamma, beta)?, statistics))
}
