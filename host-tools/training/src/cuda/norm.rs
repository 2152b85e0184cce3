//! Normalisation with batch statistics: launches of the kernels.

use super::arguments::{Act, Parameters};
use super::backend::{Backend, View, blocks};
use super::elementwise;
use crate::sizes::Map;
use candle_core::Result;

/// A normalised map with its statistics, `[C]` each.
pub(crate) struct Normalised<T> {
    pub(crate) y: T,
    pub(crate) mean: T,
    pub(crate) variance: T,
}

/// Computes `act(γ · (x − μ) / √(σ² + ε) + β)` with the statistics of this batch.
pub(crate) fn forward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    affine: [View<'_, B>; 2],
    epsilon: f32,
    act: Act,
    map: Map,
) -> Result<Normalised<B::Buffer>> {
    let (mut mean, mut variance) = (on.allocate(map.c)?, on.allocate(map.c)?);
    let parameters = Parameters::of_map(map, Act::default());
    let outputs = &mut [&mut mean, &mut variance];
    on.launch("norm_statistics", map.c, &[Some(x)], outputs, parameters)?;
    let table = table(on, affine, [on.view(&mean), on.view(&variance)], epsilon, map)?;
    let row = |index: usize| on.view(&table).part(index * map.c, map.c);
    let y = elementwise::affine(on, x, row(0), row(1), act, map)?;
    Ok(Normalised { y, mean, variance })
}

/// Returns the normalisation as a table `[4, C]`: scale, shift, mean, 1 / deviation.
fn table<B: Backend>(
    on: &B,
    [gamma, beta]: [View<'_, B>; 2],
    [mean, variance]: [View<'_, B>; 2],
    epsilon: f32,
    map: Map,
) -> Result<B::Buffer> {
    let mut table = on.allocate(4 * map.c)?;
    let parameters = Parameters {
        count: map.c as i64,
        epsilon,
        ..Parameters::default()
    };
    let inputs = [Some(mean), Some(variance), Some(gamma), Some(beta)];
    on.launch("norm_table", blocks(map.c), &inputs, &mut [&mut table], parameters)?;
    Ok(table)
}

/// Computes the input gradient of [`forward`], and a table `[2, C]` with the gradients of γ and β.
pub(crate) fn backward<B: Backend>(
    on: &B,
    x: View<'_, B>,
    dy: View<'_, B>,
    affine: [View<'_, B>; 2],
    statistics: [View<'_, B>; 2],
    epsilon: f32,
    act: Act,
    map: Map,
) -> Result<(B::Buffer, B::Buffer)> {
    let table = table(on, affine, statistics, epsilon, map)?;
    let parameters = Parameters::of_map(map, act);
    let mut sums = on.allocate(2 * map.c)?;
    let inputs = [Some(x), Some(dy), Some(on.view(&table))];
    on.launch("norm_sums", map.c, &inputs, &mut [&mut sums], parameters)?;
    let inputs = [Some(x), Some(dy), Some(on.view(&table)), Some(on.view(&sums))];
    let dx = on.map("norm_input", map.len(), &inputs, parameters)?;
    Ok((dx, sums))
}
