//! The convex problem of a new row of the head: see `taught_class`.

use crate::lbfgs::{dot, minimise};

/// Most iterations of a fit.
const ITERATIONS: usize = 100;

/// An old class.
pub(crate) struct OldClass<'a> {
    /// Its row of the head, `[F]`.
    pub(crate) row: &'a [f32],
    /// The row along the directions, `[R]`.
    pub(crate) projected: Vec<f64>,
    /// The centred mean, `[F]`.
    pub(crate) mean: Vec<f32>,
    /// Log-sum-exp of the logits of the mean.
    pub(crate) reference: f64,
}

/// Features of an image of the new class, or of a variant of it.
pub(crate) struct NewImage {
    /// The image. Its variants are left out together.
    pub(crate) image: usize,
    /// Centred, `[F]`.
    pub(crate) features: Vec<f32>,
    /// Log-sum-exp of the old logits.
    pub(crate) reference: f64,
}

/// The data of a fit. Features are centred, which conditions the problem better; only the bias depends on the centre.
pub(crate) struct RowFit<'a> {
    pub(crate) new: Vec<NewImage>,
    pub(crate) old: Vec<OldClass<'a>>,
    /// Main directions within classes, `[F]` each, scaled to the deviation.
    pub(crate) directions: &'a [Vec<f32>],
    /// Variance of every other direction.
    pub(crate) rest: f64,
    /// Penalty of half the squared length of the row.
    pub(crate) penalty: f64,
}

impl RowFit<'_> {
    /// Minimises from `start`, the row `[F]` and its bias, without the image `left_out`.
    pub(crate) fn solve(&self, left_out: Option<usize>, start: Vec<f32>) -> Vec<f32> {
        minimise(|parameters| self.loss(parameters, left_out), start, ITERATIONS)
    }

    fn loss(&self, parameters: &[f32], left_out: Option<usize>) -> (f64, Vec<f32>) {
        let (weight, bias) = parameters.split_at(parameters.len() - 1);
        let bias = f64::from(bias[0]);
        let mut sums = Gradient {
            weight: vec![0.0; weight.len()],
            bias: 0.0,
        };
        let mut loss = 0.5 * self.penalty * dot(weight, weight);
        sums.add(self.penalty, weight);
        let images = || self.new.iter().filter(|new| Some(new.image) != left_out);
        let share = 1.0 / images().count().max(1) as f64;
        for new in images() {
            let u = new.reference - dot(weight, &new.features) - bias;
            loss += share * softplus(u);
            sums.add(-share * sigmoid(u), &new.features);
            sums.bias -= share * sigmoid(u);
        }
        let share = 1.0 / self.old.len().max(1) as f64;
        let along = along(self.directions, weight);
        let mut d_along = vec![0.0; along.len()];
        for class in &self.old {
            let (within, outside) = (distance(&along, &class.projected), row_distance(weight, class.row));
            let z = dot(weight, &class.mean) + bias - class.reference + 0.5 * (within + self.rest * outside);
            loss += share * softplus(z);
            let d = share * sigmoid(z);
            sums.add(d, &class.mean);
            sums.add(d * self.rest, weight);
            sums.add(-d * self.rest, class.row);
            sums.bias += d;
            let pairs = along.iter().zip(&class.projected);
            d_along
                .iter_mut()
                .zip(pairs)
                .for_each(|(sum, (a, b))| *sum += d * (a - b));
        }
        for (direction, d) in self.directions.iter().zip(&d_along) {
            sums.add(*d, direction);
        }
        let mut gradient: Vec<f32> = sums.weight.iter().map(|&value| value as f32).collect();
        gradient.push(sums.bias as f32);
        (loss, gradient)
    }
}

struct Gradient {
    weight: Vec<f64>,
    bias: f64,
}

impl Gradient {
    fn add(&mut self, factor: f64, x: &[f32]) {
        let sums = self.weight.iter_mut().zip(x);
        sums.for_each(|(sum, &x)| *sum += factor * f64::from(x));
    }
}

/// Returns the products of a row `[F]` with the directions, `[R]`.
pub(crate) fn along(directions: &[Vec<f32>], row: &[f32]) -> Vec<f64> {
    directions.iter().map(|direction| dot(direction, row)).collect()
}

/// Returns the squared distance of two projections `[R]`.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Returns the squared distance of two rows `[F]`.
pub(crate) fn row_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum()
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}
