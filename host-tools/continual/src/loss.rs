//! Losses on logits, in candle.

use candle_core::{D, Tensor};

use crate::error::Result;

/// Returns `log softmax` of each row.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let largest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&sum)?)
}

/// Returns the cross-entropy of each row with its class, `[N]`.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn cross_entropies(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    Ok(log_softmax(logits)?.gather(&labels, 1)?.neg()?.squeeze(1)?)
}

/// Returns the mean cross-entropy.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    Ok(cross_entropies(logits, labels)?.mean_all()?)
}

/// Returns the mean of `−Σₖ softmax(target / τ)ₖ · log softmax(logits / τ)ₖ` over the rows (Hinton et al. 2015, without
/// the factor τ²).
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn distillation(logits: &Tensor, target: &Tensor, temperature: f64) -> Result<Tensor> {
    let target = log_softmax(&(target / temperature)?)?.exp()?.detach();
    let rows = (target * log_softmax(&(logits / temperature)?)?)?.sum(D::Minus1)?;
    Ok(rows.neg()?.mean_all()?)
}
