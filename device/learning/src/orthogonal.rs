//! Orthogonal iteration: the directions in which rows of a matrix vary most.

use ndarray::Array2;
use rand::{Rng, RngExt as _};

/// Returns orthonormal columns `[F, rank]` that span about the main right singular vectors of `rows` `[N, F]`, the
/// strongest first.
pub(crate) fn main_subspace(rows: &Array2<f32>, rank: usize, iterations: usize, random: &mut impl Rng) -> Array2<f32> {
    let mut basis = Array2::from_shape_simple_fn((rows.ncols(), rank), || random.random_range(-1.0_f32..1.0));
    for _ in 0..iterations {
        orthonormalise(&mut basis);
        basis = rows.t().dot(&rows.dot(&basis));
    }
    orthonormalise(&mut basis);
    basis
}

/// Makes the columns orthonormal (modified Gram–Schmidt). A dependent column becomes zero.
fn orthonormalise(columns: &mut Array2<f32>) {
    for at in 0..columns.ncols() {
        let length = columns.column(at).dot(&columns.column(at)).sqrt();
        for before in 0..at {
            let along = columns.column(at).dot(&columns.column(before));
            let other = columns.column(before).to_owned();
            columns.column_mut(at).scaled_add(-along, &other);
        }
        let left = columns.column(at).dot(&columns.column(at)).sqrt();
        let scale = if left > 1e-5 * length && left > 0.0 {
            1.0 / left
        } else {
            0.0
        };
        columns.column_mut(at).mapv_inplace(|value| value * scale);
    }
}
