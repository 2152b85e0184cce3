//! Windows, implemented as shifted copies of a padded map.

use candle_core::{Result, Tensor};

/// Pads each plane of `x` `[N, C, H, W]` with `value`. `pads` are top, left, bottom, right.
pub(super) fn pad(x: &Tensor, [top, left, bottom, right]: [usize; 4], value: f32) -> Result<Tensor> {
    let rows = |x: &Tensor, axis: usize, before: usize, after: usize| -> Result<Tensor> {
        let border = |count: usize| {
            let mut shape = x.dims().to_vec();
            shape[axis] = count;
            Tensor::full(value, shape, x.device())
        };
        let mut parts = Vec::with_capacity(3);
        if before > 0 {
            parts.push(border(before)?);
        }
        parts.push(x.clone());
        if after > 0 {
            parts.push(border(after)?);
        }
        Tensor::cat(&parts, axis)
    };
    rows(&rows(x, 2, top, bottom)?, 3, left, right)
}

/// Returns the values of a padded map at one position of all windows, `[N, C, rows, columns]`: from `start` on, every
/// `stride`-th value.
pub(super) fn tap(padded: &Tensor, start: [usize; 2], stride: [usize; 2], output: [usize; 2]) -> Result<Tensor> {
    let mut tap = padded.clone();
    for axis in 0..2 {
        tap = if stride[axis] == 1 {
            tap.narrow(axis + 2, start[axis], output[axis])?
        } else {
            let places = (0..output[axis]).map(|at| (start[axis] + at * stride[axis]) as u32);
            let places = Tensor::from_iter(places, padded.device())?;
            tap.contiguous()?.index_select(&places, axis + 2)?
        };
    }
    tap.contiguous()
}
