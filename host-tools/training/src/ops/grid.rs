//! Rounding to the grid of a quantised value.

use candle_core::{Result, Tensor};
use clr_onnx::Quantisation;

/// Numbers of this size have no fraction in f32, so that adding it rounds to an integer, with ties to even.
const ROUNDING: f64 = 12_582_912.0;

/// Rounds every value to the nearest one of `grid` (ONNX `QuantizeLinear` followed by `DequantizeLinear`, opset 13). The
/// gradient is 1 inside the grid's range and 0 outside of it (the straight-through estimator).
pub fn round_to_grid(x: &Tensor, grid: Quantisation) -> Result<Tensor> {
    let scale = Tensor::new(grid.scale, x.device())?;
    let zero_point = f64::from(grid.zero_point);
    let steps = x.broadcast_div(&scale)?.clamp(-zero_point, 255.0 - zero_point)?;
    let fixed = steps.detach();
    let rounded = ((&fixed + ROUNDING)? - ROUNDING)?;
    // The difference is exact, and so is the sum.
    (steps + (rounded - fixed)?)?.broadcast_mul(&scale)
}
