//! Pooling: launches of the kernels.

use super::arguments::{Act, Parameters};
use super::backend::{Backend, View, blocks};
use crate::sizes::Map;
use crate::sizes::PoolWindow as Window;
use candle_core::Result;

fn parameters(from: Map, window: Window, to: Map) -> Parameters {
    Parameters {
        from: from.into(),
        to: to.into(),
        window: window.into(),
        flag: i32::from(window.count_pad),
        ..Parameters::default()
    }
}

/// Computes the maximum over windows, and its positions.
pub(crate) fn max<B: Backend>(
    on: &B,
    x: View<'_, B>,
    from: Map,
    window: Window,
    to: Map,
) -> Result<(B::Buffer, B::Buffer)> {
    let (mut y, mut winners) = (on.allocate(to.len())?, on.allocate(to.len())?);
    let outputs = &mut [&mut y, &mut winners];
    let parameters = parameters(from, window, to);
    on.launch("max_forward", blocks(to.len()), &[Some(x)], outputs, parameters)?;
    Ok((y, winners))
}

/// Computes the input gradient of [`max`]. The positions of the maxima are recomputed, because storing them would take
/// as much memory as the result.
pub(crate) fn max_input<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    from: Map,
    window: Window,
    to: Map,
) -> Result<B::Buffer> {
    let (_, winners) = max(on, x, from, window, to)?;
    let inputs = [Some(dy), Some(on.view(&winners))];
    on.map("max_input", from.len(), &inputs, parameters(from, window, to))
}

/// Computes the mean over windows.
pub(crate) fn average<B: Backend>(on: &B, x: View<'_, B>, from: Map, window: Window, to: Map) -> Result<B::Buffer> {
    on.map("average_forward", to.len(), &[Some(x)], parameters(from, window, to))
}

/// Returns the input gradient of [`average`].
pub(crate) fn average_input<B: Backend>(
    on: &B,
    dy: View<'_, B>,
    from: Map,
    window: Window,
    to: Map,
) -> Result<B::Buffer> {
    on.map("average_input", from.len(), &[Some(dy)], parameters(from, window, to))
}

/// Computes the mean of every plane.
pub(crate) fn global<B: Backend>(on: &B, x: View<'_, B>, map: Map) -> Result<B::Buffer> {
    let mut y = on.allocate(map.n * map.c)?;
    let parameters = Parameters::of_map(map, Act::default());
    on.launch("global_forward", map.n * map.c, &[Some(x)], &mut [&mut y], parameters)?;
    Ok(y)
}

/// Returns the input gradient of [`global`].
pub(crate) fn global_input<B: Backend>(on: &B, dy: View<'_, B>, map: Map) -> Result<B::Buffer> {
    let parameters = Parameters::of_map(map, Act::default());
    on.map("global_input", map.len(), &[Some(dy)], parameters)
}
