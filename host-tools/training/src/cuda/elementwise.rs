//! Per-channel scale and shift, activations, residual sum and `PRelu`: launches of the kernels.

use super::arguments::{Act, Parameters};
use super::backend::{Backend, View};
use crate::sizes::Map;
use candle_core::Result;

fn of_count(count: usize, act: Act) -> Parameters {
    Parameters {
        count: count as i64,
        act,
        ..Parameters::default()
    }
}

/// Computes `act(x · scale + shift)` per channel.
pub(crate) fn affine<B: Backend>(
    on: &B,
    x: View<'_, B>,
    scale: View<'_, B>,
    shift: View<'_, B>,
    act: Act,
    map: Map,
) -> Result<B::Buffer> {
    let inputs = [Some(x), Some(scale), Some(shift)];
    on.map("affine_forward", map.len(), &inputs, Parameters::of_map(map, act))
}

/// Computes the input gradient of [`affine`].
pub(crate) fn affine_input<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    scale: View<'_, B>,
    shift: View<'_, B>,
    act: Act,
    map: Map,
) -> Result<B::Buffer> {
    let inputs = [Some(x), Some(dy), Some(scale), Some(shift)];
    on.map("affine_input", map.len(), &inputs, Parameters::of_map(map, act))
}

/// Computes the gradients of scale and shift of [`affine`].
pub(crate) fn affine_sums<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    scale: View<'_, B>,
    shift: View<'_, B>,
    act: Act,
    map: Map,
) -> Result<[B::Buffer; 2]> {
    let (mut by_scale, mut by_shift) = (on.allocate(map.c)?, on.allocate(map.c)?);
    let inputs = [Some(x), Some(dy), Some(scale), Some(shift)];
    let outputs = &mut [&mut by_scale, &mut by_shift];
    on.launch("affine_sums", map.c, &inputs, outputs, Parameters::of_map(map, act))?;
    Ok([by_scale, by_shift])
}

/// Applies an activation to `count` values.
pub(crate) fn activate<B: Backend>(on: &B, x: View<'_, B>, act: Act, count: usize) -> Result<B::Buffer> {
    on.map("activate_forward", count, &[Some(x)], of_count(count, act))
}

/// Computes the gradient of [`activate`].
pub(crate) fn activate_input<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    act: Act,
    count: usize,
) -> Result<B::Buffer> {
    on.map("activate_input", count, &[Some(x), Some(dy)], of_count(count, act))
}

/// Computes `act(a + b)` of `count` values.
pub(crate) fn add<B: Backend>(on: &B, a: View<'_, B>, b: View<'_, B>, act: Act, count: usize) -> Result<B::Buffer> {
    on.map("add_forward", count, &[Some(a), Some(b)], of_count(count, act))
}

/// Computes the gradient of both summands of [`add`].
pub(crate) fn add_input<B: Backend>(
    on: &B,
    a: View<'_, B>,
    b: View<'_, B>,
    dy: View<'_, B>,
    act: Act,
    count: usize,
) -> Result<B::Buffer> {
    let inputs = [Some(a), Some(b), Some(dy)];
    on.map("add_input", count, &inputs, of_count(count, act))
}

/// Computes `x if x ≥ 0 else slope · x`, with a slope per channel.
pub(crate) fn prelu<B: Backend>(on: &B, x: View<'_, B>, slope: View<'_, B>, map: Map) -> Result<B::Buffer> {
    let inputs = [Some(x), Some(slope)];
    on.map(
        "prelu_forward",
        map.len(),
        &inputs,
        Parameters::of_map(map, Act::default()),
    )
}

/// Computes the input gradient of [`prelu`].
pub(crate) fn prelu_input<B: Backend>(
    on: &B,
    x: View<'_, B>,
    slope: View<'_, B>,
    dy: View<'_, B>,
    map: Map,
) -> Result<B::Buffer> {
    let inputs = [Some(x), Some(slope), Some(dy)];
    on.map(
        "prelu_input",
        map.len(),
        &inputs,
        Parameters::of_map(map, Act::default()),
    )
}

/// Computes the gradient of the slope of [`prelu`].
pub(crate) fn prelu_sums<B: Backend>(on: &B, x: View<'_, B>, dy: View<'_, B>, map: Map) -> Result<B::Buffer> {
    let mut sums = on.allocate(map.c)?;
    let inputs = [Some(x), Some(dy)];
    on.launch(
        "prelu_sums",
        map.c,
        &inputs,
        &mut [&mut sums],
        Parameters::of_map(map, Act::default()),
    )?;
    Ok(sums)
}
