//! Pooling with any window.

use candle_core::{Result, Tensor};

use super::taps::{pad, tap};
use crate::sizes::PoolWindow;

/// Returns the values at each position of the window; outside of the input they are `value`.
fn taps(x: &Tensor, window: PoolWindow, output: [usize; 2], value: f32) -> Result<Vec<Tensor>> {
    let (_, _, height, width) = x.dims4()?;
    let size = [height, width];
    let mut pads = window.pads;
    // With `ceil`, the last windows extend beyond the padding.
    for axis in 0..2 {
        let reach = (output[axis] - 1) * window.stride[axis] + window.kernel[axis];
        let missing = reach.saturating_sub(size[axis] + pads[axis]);
        pads[axis + 2] = pads[axis + 2].max(missing);
    }
    let padded = pad(x, pads, value)?;
    let places = (0..window.kernel[0]).flat_map(|ky| (0..window.kernel[1]).map(move |kx| [ky, kx]));
    places.map(|start| tap(&padded, start, window.stride, output)).collect()
}

/// Computes the maximum over windows. Padding is never the maximum.
pub(in crate::ops) fn max_pool(x: &Tensor, window: PoolWindow, output: [usize; 2]) -> Result<Tensor> {
    let taps = taps(x, window, output, f32::NEG_INFINITY)?;
    let mut taps = taps.into_iter();
    let first = taps
        .next()
        .ok_or_else(|| candle_core::Error::msg("max pool: the window is empty"))?;
    taps.try_fold(first, |largest, tap| largest.maximum(&tap))
}

/// Computes the mean over windows.
pub(in crate::ops) fn average_pool(x: &Tensor, window: PoolWindow, output: [usize; 2]) -> Result<Tensor> {
    let sum = |taps: Vec<Tensor>| {
        let mut taps = taps.into_iter();
        let first = taps
            .next()
            .ok_or_else(|| candle_core::Error::msg("average pool: the window is empty"))?;
        taps.try_fold(first, |sum, tap| sum + tap)
    };
    let ones = x.ones_like()?.narrow(0, 0, 1)?.narrow(1, 0, 1)?;
    // The mean includes the input's values and, with `count_pad`, those of the padding, but never values beyond the
    // padding.
    let counted = if window.count_pad {
        pad(&ones, window.pads, 1.0)?
    } else {
        ones
    };
    let pads = if window.count_pad { [0; 4] } else { window.pads };
    let counts = sum(taps(&counted, PoolWindow { pads, ..window }, output, 0.0)?)?;
    sum(taps(x, window, output, 0.0)?)?.broadcast_div(&counts.detach())
}
