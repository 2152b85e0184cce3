//! Weights and bias of one class, fitted by logistic regression while all others are fixed.
//!
//! The logits of the other classes are known, so the unknowns are one weight vector `[F]` and one bias. The images of
//! the class have the same total weight as all others. A small L2 penalty towards the initial weights only determines
//! directions on which the images have no effect. The solution is the initial weights plus a linear combination of the
//! images' features, so Newton's method needs one unknown per image, which is fewer than one per feature.

/// L2 penalty towards the initial weights, for features with a mean squared length of 1.
const STAY: f64 = 1e-5;
/// Maximum number of Newton steps; about ten are needed.
const STEPS: usize = 50;

/// Weights `[F]` and bias of one class.
#[derive(Clone, Debug)]
pub(super) struct ClassWeights {
    pub(super) weight: Vec<f64>,
    pub(super) bias: f64,
}

impl ClassWeights {
    pub(super) fn logit(&self, x: &[f32]) -> f64 {
        dot(&self.weight, x) + self.bias
    }
}

/// An image in the fit.
pub(super) struct Sample<'a> {
    pub(super) features: &'a [f32],
    /// The other classes' logits.
    pub(super) others: &'a [f64],
    /// Whether the image belongs to the class.
    pub(super) own: bool,
}

/// Fits weights that separate the class's images from the others. `logit_margin` is added to the class's logit during
/// the fit, so the resulting bias is lower by it. Returns `None` if there are no images of the class or no others, or
/// if the fit is not finite.
pub(super) fn fit(start: &ClassWeights, samples: &[&Sample<'_>], logit_margin: f64) -> Option<ClassWeights> {
    let n = samples.len();
    let count = |own: bool| samples.iter().filter(|sample| sample.own == own).count();
    if count(true) == 0 || count(false) == 0 {
        return None;
    }
    let lengths = samples.iter().map(|sample| product(sample.features, sample.features));
    let scale = (lengths.sum::<f64>() / n as f64).max(1e-12);
    let mut gram = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let value = product(samples[i].features, samples[j].features) / scale;
            (gram[i * n + j], gram[j * n + i]) = (value, value);
        }
    }
    let fit = Fit {
        offsets: (samples.iter())
            .map(|sample| dot(&start.weight, sample.features) - log_sum(sample.others) + logit_margin)
            .collect(),
        targets: samples.iter().map(|sample| f64::from(u8::from(sample.own))).collect(),
        weights: samples.iter().map(|sample| 1.0 / count(sample.own) as f64).collect(),
        gram,
    };
    let (shares, bias) = fit.solve(start.bias)?;
    let mut weight = start.weight.clone();
    for (share, sample) in shares.iter().zip(samples) {
        for (weight, &x) in weight.iter_mut().zip(sample.features) {
            *weight += share / scale * f64::from(x);
        }
    }
    let weights = ClassWeights { weight, bias };
    let finite = weights.bias.is_finite() && weights.weight.iter().all(|value| value.is_finite());
    finite.then_some(weights)
}

struct Fit {
    /// Gram matrix of the samples' features, row-major.
    gram: Vec<f64>,
    /// Lead of the class over the others for each sample, with the initial weights.
    offsets: Vec<f64>,
    targets: Vec<f64>,
    weights: Vec<f64>,
}

impl Fit {
    fn moved(&self, shares: &[f64]) -> Vec<f64> {
        let rows = self.gram.chunks_exact(shares.len());
        rows.map(|row| row.iter().zip(shares).map(|(g, a)| g * a).sum())
            .collect()
    }

    fn loss(&self, shares: &[f64], bias: f64) -> f64 {
        let moved = self.moved(shares);
        let stay: f64 = moved.iter().zip(shares).map(|(m, a)| m * a).sum();
        let losses = (0..shares.len()).map(|i| {
            let lead = self.offsets[i] + moved[i] + bias;
            let wrong = if self.targets[i] > 0.5 { -lead } else { lead };
            self.weights[i] * (wrong.max(0.0) + (-wrong.abs()).exp().ln_1p())
        });
        losses.sum::<f64>() + STAY / 2.0 * stay
    }

    /// Returns one coefficient per sample, and the bias. The change of the weights is proportional to the sum of the
    /// samples' features, each multiplied by its coefficient.
    fn solve(&self, bias: f64) -> Option<(Vec<f64>, f64)> {
        let n = self.targets.len();
        let (mut shares, mut bias) = (vec![0.0; n], bias);
        let mut loss = self.loss(&shares, bias);
        for _ in 0..STEPS {
            let moved = self.moved(&shares);
            let mut matrix = vec![vec![0.0; n + 2]; n + 1];
            for i in 0..n {
                let lead = self.offsets[i] + moved[i] + bias;
                let probability = 1.0 / (1.0 + (-lead.clamp(-50.0, 50.0)).exp());
                let gradient = self.weights[i] * (probability - self.targets[i]);
                let curve = self.weights[i] * probability * (1.0 - probability);
                let products: Vec<f64> = self.gram[i * n..(i + 1) * n].iter().map(|g| curve * g).collect();
                matrix[i][..n].copy_from_slice(&products);
                (matrix[n].iter_mut().zip(&products)).for_each(|(sum, product)| *sum += product);
                matrix[i][i] += STAY;
                matrix[i][n] = curve;
                matrix[n][n] += curve;
                matrix[i][n + 1] = -(gradient + STAY * shares[i]);
                matrix[n][n + 1] -= gradient;
            }
            matrix[n][n] += 1e-9;
            let step = eliminate(matrix)?;
            let mut length = 1.0;
            let (tried, tried_bias, tried_loss) = loop {
                let tried: Vec<f64> = shares.iter().zip(&step).map(|(a, s)| a + length * s).collect();
                let tried_bias = bias + length * step[n];
                let tried_loss = self.loss(&tried, tried_bias);
                if tried_loss <= loss {
                    break (tried, tried_bias, tried_loss);
                }
                length /= 2.0;
                if length < 1e-6 {
                    return Some((shares, bias));
                }
            };
            let gained = loss - tried_loss;
            (shares, bias, loss) = (tried, tried_bias, tried_loss);
            if gained < 1e-10 {
                break;
            }
        }
        Some((shares, bias))
    }
}

/// Gaussian elimination; the last column is the right-hand side. Returns `None` for a singular matrix.
fn eliminate(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = matrix.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        let (above, below) = matrix.split_at_mut(column + 1);
        let row = &above[column];
        if row[column] == 0.0 || !row[column].is_finite() {
            return None;
        }
        for other in below {
            let factor = other[column] / row[column];
            (other[column..].iter_mut().zip(&row[column..])).for_each(|(other, row)| *other -= factor * row);
        }
    }
    let mut solution = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|column| matrix[row][column] * solution[column]).sum();
        solution[row] = (matrix[row][n] - known) / matrix[row][row];
    }
    Some(solution)
}

pub(super) fn log_sum(logits: &[f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln()
}

pub(super) fn dot(weight: &[f64], x: &[f32]) -> f64 {
    weight.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum()
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fits to tuples of features, the others' logit, and whether the sample belongs to the class.
    fn fitted(data: &[([f32; 3], f64, bool)], logit_margin: f64) -> ClassWeights {
        let others: Vec<[f64; 1]> = data.iter().map(|&(_, other, _)| [other]).collect();
        let samples: Vec<Sample<'_>> = (data.iter().zip(&others))
            .map(|((features, _, own), others)| Sample {
                features,
                others,
                own: *own,
            })
            .collect();
        let start = ClassWeights {
            weight: vec![0.0; 3],
            bias: 0.0,
        };
        fit(&start, &samples.iter().collect::<Vec<_>>(), logit_margin).unwrap()
    }

    const DATA: [([f32; 3], f64, bool); 6] = [
        ([1.0, 0.2, 0.1], 0.5, true),
        ([0.9, 0.1, 0.3], 1.0, true),
        ([0.3, 0.5, 0.1], 0.2, true),
        ([0.1, 1.0, 0.2], 2.0, false),
        ([0.8, 0.4, 0.1], 0.6, false),
        ([0.2, 0.1, 1.0], 1.5, false),
    ];

    #[test]
    fn fitted_class_weights_have_a_zero_gradient() {
        let weights = fitted(&DATA, 0.5);
        // At the minimum, the residuals of the two groups add up to zero.
        let off: f64 = (DATA.iter())
            .map(|(x, other, own)| 1.0 / (1.0 + (-(weights.logit(x) + 0.5 - other)).exp()) - f64::from(u8::from(*own)))
            .sum();
        assert!(off.abs() < 1e-3, "{off}");
    }

    #[test]
    fn a_larger_margin_lowers_the_logit() {
        let (bold, shy) = (fitted(&DATA, 0.0), fitted(&DATA, 3.0));
        for (x, _, _) in DATA {
            assert!((bold.logit(&x) - shy.logit(&x) - 3.0).abs() < 0.05);
        }
    }
}
