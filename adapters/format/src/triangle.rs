//! Products of vectors, and lower triangular matrices: covariance, Cholesky factor and its inverse.

use alloc::{vec, vec::Vec};

/// A lower triangular matrix, row by row.
pub(crate) type Triangle = Vec<Vec<f64>>;

/// Minimum pivot of a factorisation.
const LEAST_PIVOT: f64 = 1e-12;

/// Returns the covariance of `points` around `mean`, with one degree of freedom less than there are points.
pub(crate) fn covariance(points: &[Vec<f32>], mean: &[f64]) -> Triangle {
    let mut covariance: Triangle = (0..mean.len()).map(|row| vec![0.0; row + 1]).collect();
    let mut difference = vec![0.0; mean.len()];
    for point in points {
        for ((difference, &value), mean) in difference.iter_mut().zip(point).zip(mean) {
            *difference = f64::from(value) - mean;
        }
        for (row, own) in covariance.iter_mut().zip(&difference) {
            row.iter_mut()
                .zip(&difference)
                .for_each(|(sum, other)| *sum += own * other);
        }
    }
    let freedom = points.len().saturating_sub(1).max(1) as f64;
    covariance.iter_mut().flatten().for_each(|sum| *sum /= freedom);
    covariance
}

/// Returns the mean of `points`, which are not empty.
pub(crate) fn mean(points: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0_f64; points.first().map_or(0, Vec::len)];
    for point in points {
        mean.iter_mut()
            .zip(point)
            .for_each(|(sum, &value)| *sum += f64::from(value));
    }
    for sum in &mut mean {
        *sum /= points.len() as f64;
    }
    mean
}

/// Returns the sum of the diagonal.
pub(crate) fn trace(matrix: &Triangle) -> f64 {
    matrix.iter().filter_map(|row| row.last()).sum()
}

/// Returns `scale · matrix + diagonal · I`.
pub(crate) fn shrunk(mut matrix: Triangle, scale: f64, diagonal: f64) -> Triangle {
    for row in &mut matrix {
        for value in row.iter_mut() {
            *value *= scale;
        }
        if let Some(last) = row.last_mut() {
            *last += diagonal;
        }
    }
    matrix
}

/// Cholesky factorisation: returns `L` with `L Lᵀ = matrix`, which must be positive definite.
pub(crate) fn cholesky(matrix: &Triangle) -> Triangle {
    let mut factor: Triangle = Vec::with_capacity(matrix.len());
    for row in matrix {
        let mut new: Vec<f64> = Vec::with_capacity(row.len());
        for (column, &value) in row.iter().enumerate() {
            let above = factor.get(column).unwrap_or(&new);
            let rest = value - new.iter().zip(above).map(|(a, b)| a * b).sum::<f64>();
            new.push(if column + 1 == row.len() {
                libm::sqrt(rest.max(LEAST_PIVOT))
            } else {
                rest / above[column]
            });
        }
        factor.push(new);
    }
    factor
}

/// Returns the inverse of a lower triangular `factor`, which is lower triangular as well.
pub(crate) fn inverse(factor: &Triangle) -> Triangle {
    let mut inverse: Triangle = Vec::with_capacity(factor.len());
    for (index, row) in factor.iter().enumerate() {
        let diagonal = row[index];
        let mut new: Vec<f64> = (0..index)
            .map(|column| {
                let sum: f64 = (column..index)
                    .map(|middle| row[middle] * inverse[middle][column])
                    .sum();
                -sum / diagonal
            })
            .collect();
        new.push(1.0 / diagonal);
        inverse.push(new);
    }
    inverse
}

/// Returns the dot product, in eight parallel sums for vectorisation.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len().min(b.len())];
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
