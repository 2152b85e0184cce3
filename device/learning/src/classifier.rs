//! Classifier: logits of features, and the gradients.

/// Number of partial sums. The compiler vectorises them, and the order of the summation is fixed.
const LANES: usize = 16;

/// Returns `a · b`.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Computes `sum += factor · x`.
pub(crate) fn add_scaled(sum: &mut [f32], factor: f32, x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
}

/// Returns the logits `[K]` of features `[F]`: `weight [K, F] · features + bias [K]`.
pub(crate) fn logits(weight: &[f32], bias: &[f32], features: &[f32]) -> Vec<f32> {
    if features.is_empty() {
        return bias.to_vec();
    }
    let rows = weight.chunks_exact(features.len()).zip(bias);
    rows.map(|(row, bias)| dot(row, features) + bias).collect()
}

/// Returns the gradient of the features `[F]` from the gradient of the logits `[K]`.
pub(crate) fn features_gradient(weight: &[f32], d_logits: &[f32], features: usize) -> Vec<f32> {
    let mut gradient = vec![0.0; features];
    for (row, &d_logit) in weight.chunks_exact(features.max(1)).zip(d_logits) {
        add_scaled(&mut gradient, d_logit, row);
    }
    gradient
}
