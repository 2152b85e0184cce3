//! Activations.

use candle_core::{Result, Tensor};
use clr_onnx::Activation;

/// Applies an activation to a tensor of any shape.
pub(in crate::ops) fn activation(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let sigmoid = |x: &Tensor| (x.neg()?.exp()? + 1.0)?.recip();
    Ok(match activation {
        Activation::Relu => x.relu()?,
        Activation::Clip { min, max } => clamp(x, min, max)?,
        Activation::LeakyRelu { alpha } => {
            let positive = x.relu()?;
            (&positive + ((x - &positive)? * f64::from(alpha))?)?
        }
        Activation::Sigmoid => sigmoid(x)?,
        Activation::HardSigmoid { alpha, beta } => clamp(&((x * f64::from(alpha))? + f64::from(beta))?, 0.0, 1.0)?,
        Activation::HardSwish => (x * clamp(&((x / 6.0)? + 0.5)?, 0.0, 1.0)?)?,
        Activation::Silu => (x * sigmoid(x)?)?,
        Activation::Gelu => x.gelu_erf()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::Tanh => x.tanh()?,
        Activation::Elu { alpha } => x.elu(f64::from(alpha))?,
        Activation::Mish => {
            // ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.
            let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
            (x * softplus.tanh()?)?
        }
        other => candle_core::bail!("{} has no reference in candle", other.name()),
    })
}

/// Computes `min(max(x, min), max)`; infinite bounds have no effect.
fn clamp(x: &Tensor, min: f32, max: f32) -> Result<Tensor> {
    let mut y = x.clone();
    if min > f32::NEG_INFINITY {
        y = y.maximum(&Tensor::full(min, y.shape(), y.device())?)?;
    }
    if max < f32::INFINITY {
        y = y.minimum(&Tensor::full(max, y.shape(), y.device())?)?;
    }
    Ok(y)
}

/// Computes `x if x ≥ 0 else slope · x`: x `[N, C, H, W]`, slope `[C]`.
pub(in crate::ops) fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let positive = x.relu()?;
    let negative = (x - &positive)?;
    positive + negative.broadcast_mul(&slope.reshape((1, slope.elem_count(), 1, 1))?)?
}
