//! CLR layer, alone or followed by normalisation with batch statistics: launches of the kernels.

use super::arguments::{Act, Parameters};
use super::backend::{Backend, View};
use super::norm::{self, Normalised};
use crate::sizes::Map;
use candle_core::Result;

fn parameters(map: Map, act: Act, mirror: bool) -> Parameters {
    Parameters {
        flag: i32::from(mirror),
        ..Parameters::of_map(map, act)
    }
}

/// Computes `act(depthwise(x, kernel) + bias)`: x `[N, C, H, W]`, kernel `[C, 9]`, bias `[C]`.
pub(crate) fn forward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    kernel: View<'_, B>,
    bias: Option<View<'_, B>>,
    act: Act,
    map: Map,
) -> Result<B::Buffer> {
    let inputs = [Some(x), Some(kernel), bias];
    on.map("site_forward", map.len(), &inputs, parameters(map, act, false))
}

/// The required gradients of a CLR layer.
pub(crate) struct Gradients<T> {
    /// Gradient of the map, `[N, C, H, W]`.
    pub(crate) x: Option<T>,
    /// Gradients of the kernel `[C, 9]` and the bias `[C]`.
    pub(crate) weights: Option<[T; 2]>,
}

/// Selection of gradients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) x: bool,
    pub(crate) weights: bool,
}

/// Computes the gradients of [`forward`]. The pre-activation is recomputed.
pub(crate) fn backward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    kernel: View<'_, B>,
    bias: Option<View<'_, B>>,
    act: Act,
    dy: View<'_, B>,
    map: Map,
    wanted: Wanted,
) -> Result<Gradients<B::Buffer>> {
    let inputs = [Some(x), Some(kernel), bias, Some(dy)];
    let g = on.map("site_gradient", map.len(), &inputs, parameters(map, act, false))?;
    linear(on, x, kernel, on.view(&g), map, wanted)
}

/// Computes the gradients of the layer without its activation. `g` is the gradient of the layer's sums.
fn linear<B: Backend>(
    on: &B,
    x: View<'_, B>,
    kernel: View<'_, B>,
    g: View<'_, B>,
    map: Map,
    wanted: Wanted,
) -> Result<Gradients<B::Buffer>> {
    let plain = |mirror| parameters(map, Act::default(), mirror);
    let dx = || on.map("site_forward", map.len(), &[Some(g), Some(kernel), None], plain(true));
    let sums = || -> Result<[B::Buffer; 2]> {
        let (mut dk, mut db) = (on.allocate(map.c * 9)?, on.allocate(map.c)?);
        let outputs = &mut [&mut dk, &mut db];
        on.launch("site_sums", map.c, &[Some(x), Some(g)], outputs, plain(false))?;
        Ok([dk, db])
    };
    Ok(Gradients {
        x: wanted.x.then(dx).transpose()?,
        weights: wanted.weights.then(sums).transpose()?,
    })
}

/// Computes `act(batch_norm(depthwise(x, kernel)))` with the statistics of this batch.
pub(crate) fn norm_forward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    kernel: View<'_, B>,
    [gamma, beta]: [View<'_, B>; 2],
    epsilon: f32,
    act: Act,
    map: Map,
) -> Result<Normalised<B::Buffer>> {
    let convolved = forward(on, x, kernel, None, Act::default(), map)?;
    norm::forward(on, on.view(&convolved), [gamma, beta], epsilon, act, map)
}

/// Computes the gradients of [`norm_forward`]: those of x and the kernel (with an unused bias), and a table `[2, C]`
/// with those of gamma and beta. The map before the norm is recomputed.
pub(crate) fn norm_backward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    kernel: View<'_, B>,
    affine: [View<'_, B>; 2],
    statistics: [View<'_, B>; 2],
    epsilon: f32,
    act: Act,
    map: Map,
    wanted: Wanted,
) -> Result<(Gradients<B::Buffer>, B::Buffer)> {
    let convolved = forward(on, x, kernel, None, Act::default(), map)?;
    let (g, sums) = norm::backward(on, on.view(&convolved), dy, affine, statistics, epsilon, act, map)?;
    let gradients = linear(on, x, kernel, on.view(&g), map, wanted)?;
    Ok((gradients, sums))
}
