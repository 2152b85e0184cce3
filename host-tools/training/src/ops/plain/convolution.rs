//! Convolutions.

use candle_core::{Result, Tensor};

use super::taps::{pad, tap};
use crate::sizes::Window;

/// Convolves `x` `[N, C, H, W]` with `weight` `[O, C / groups, kh, kw]`. The result is a sum over the positions of the
/// window, each a matrix product per group.
pub(in crate::ops) fn convolution(
    x: &Tensor,
    weight: &Tensor,
    window: Window,
    output: [usize; 2],
    groups: usize,
) -> Result<Tensor> {
    let (n, channels, _, _) = x.dims4()?;
    let (outputs, inputs, _, _) = weight.dims4()?;
    let padded = pad(x, window.pads, 0.0)?;
    let [rows, columns] = output;
    let mut sum: Option<Tensor> = None;
    for ky in 0..window.kernel[0] {
        for kx in 0..window.kernel[1] {
            let start = [ky * window.dilation[0], kx * window.dilation[1]];
            let tap =
                tap(&padded, start, window.stride, output)?.reshape((n, groups, channels / groups, rows * columns))?;
            let weight = (weight.narrow(2, ky, 1)?.narrow(3, kx, 1)?).reshape((1, groups, outputs / groups, inputs))?;
            let part = weight.broadcast_matmul(&tap)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    match sum {
        Some(sum) => sum.reshape((n, outputs, rows, columns)),
        None => candle_core::bail!("convolution: the kernel is empty"),
    }
}

/// Applies the CLR layer without a bias: a 3×3 kernel per channel, `[C, 1, 3, 3]`, stride 1, padding 1.
pub(in crate::ops) fn depthwise(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    let (_, channels, rows, columns) = x.dims4()?;
    let kernel = kernel.reshape((channels, 9))?;
    let padded = pad(x, [1; 4], 0.0)?;
    let mut sum: Option<Tensor> = None;
    for place in 0..9 {
        let tap = tap(&padded, [place / 3, place % 3], [1, 1], [rows, columns])?;
        let weight = kernel.narrow(1, place, 1)?.reshape((1, channels, 1, 1))?;
        let part = tap.broadcast_mul(&weight)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    sum.map_or_else(|| Ok(x.clone()), Ok)
}
