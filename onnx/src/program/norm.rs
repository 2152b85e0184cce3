//! Frozen norms as scale and bias, computed in double precision and rounded once.

use crate::{BatchNorm, Conv};

/// Returns scale and bias `[C]` of `norm` applied to the sum of a value and `own` (`[C]`, a convolution's bias; `None`
/// means zero).
///
/// `scale = γ / √(σ² + ε)`, `bias = β + (own − μ) · scale` (ONNX `BatchNormalization`, opset 15).
pub(super) fn affine_of_norm(norm: &BatchNorm, own: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
    let affine = |channel: usize| {
        let at = |values: &crate::Tensor| f64::from(values.data()[channel]);
        let scale = at(&norm.scale) / (at(&norm.variance) + f64::from(norm.epsilon)).sqrt();
        let own = own.map_or(0.0, |own| f64::from(own[channel]));
        (scale as f32, (at(&norm.bias) + (own - at(&norm.mean)) * scale) as f32)
    };
    (0..norm.scale.data().len()).map(affine).unzip()
}

/// Returns scale and bias `[C]` of the backbone's own epilogue: the convolution's bias, and then its norm if there is
/// one.
pub(super) fn frozen_epilogue(conv: &Conv, norm: Option<&BatchNorm>) -> (Vec<f32>, Vec<f32>) {
    let own = conv.bias.as_ref().map(crate::Tensor::data);
    if let Some(norm) = norm {
        return affine_of_norm(norm, own);
    }
    let channels = conv.channels();
    let bias = own.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec);
    (vec![1.0; channels], bias)
}
