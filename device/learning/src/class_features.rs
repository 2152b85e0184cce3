//! What an adapter tells a device about its classes: means, main directions of the spread, and margins of real images.

use clr_adapters::{ClassFeatures, Head, StepSize};
use ndarray::Array2;
use rand::RngExt as _;

use crate::{
    LabelledFeatures, Purpose,
    error::{LearningError, Result},
    orthogonal::main_subspace,
    stream,
    taught_class::{KnownClasses, Simulation, learn_margins},
};

/// Number of directions, unless there are fewer images.
const RANK: usize = 16;
/// Iterations that turn random directions into the main ones.
const ITERATIONS: usize = 8;
/// Step of class features in units of the root of the mean variance. Coarser ones cost recall of taught classes
/// (docs/results/2026-11-30-class-features.md).
pub const CLASS_FEATURES_STEP: f64 = 0.3;
/// Images of a class in a simulated teaching, and the most classes that are taught.
const TAUGHT: usize = 20;
const MOST_SIMULATIONS: usize = 16;

/// Computes the class features of `images`, which are the features that `head` reads, with margins of the `validation`
/// images. The values are rounded to a step of `step` times the root of their mean variance
/// ([`CLASS_FEATURES_STEP`]). With a single class or without validation images, there are no
/// margins. Returns `None` if a class has no image.
///
/// # Errors
/// [`LearningError::Mismatch`] if features have another length than the head's, or a label is not below its classes.
pub fn learn_class_features(
    images: &LabelledFeatures,
    validation: &LabelledFeatures,
    head: &Head,
    step: f64,
    seed: u64,
) -> Result<Option<ClassFeatures>> {
    let (classes, features) = (head.classes(), head.features);
    for set in [images, validation] {
        if let Some(row) = set.features.iter().find(|row| row.len() != features) {
            return Err(LearningError::mismatch("features of an image", features, row.len()));
        }
        if let Some(label) = set.labels.iter().find(|&&label| label as usize >= classes) {
            return Err(LearningError::mismatch("a label", format!("below {classes}"), label));
        }
    }
    let mut means = vec![vec![0.0_f64; features]; classes];
    let mut counts = vec![0_usize; classes];
    for (row, &label) in images.features.iter().zip(&images.labels) {
        counts[label as usize] += 1;
        let sums = means[label as usize].iter_mut().zip(row);
        sums.for_each(|(sum, &value)| *sum += f64::from(value));
    }
    if counts.contains(&0) || counts.is_empty() || features == 0 {
        return Ok(None);
    }
    for (mean, &count) in means.iter_mut().zip(&counts) {
        for sum in mean {
            *sum /= count as f64;
        }
    }
    let centre: Vec<f64> = (0..features)
        .map(|at| means.iter().map(|mean| mean[at]).sum::<f64>() / classes as f64)
        .collect();
    let residual = |(row, &label): (&Vec<f32>, &u32)| -> Vec<f32> {
        let mean = &means[label as usize];
        row.iter()
            .zip(mean)
            .map(|(&value, mean)| (f64::from(value) - mean) as f32)
            .collect()
    };
    let residuals: Vec<f32> = images.features.iter().zip(&images.labels).flat_map(residual).collect();
    let residuals = Array2::from_shape_vec((images.labels.len(), features), residuals)
        .map_err(|_| LearningError::mismatch("labels", images.features.len(), images.labels.len()))?;
    let freedom = images.labels.len().saturating_sub(classes).max(1) as f32;
    let directions = main_directions(&residuals, freedom, seed);
    let squares = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    let within = residuals.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / f64::from(freedom);
    let mut known = ClassFeatures {
        mean: centre.iter().map(|&value| value as f32).collect(),
        deviations: (means.iter())
            .flat_map(|mean| mean.iter().zip(&centre).map(|(mean, centre)| (mean - centre) as f32))
            .collect(),
        rest: 0.0,
        directions: directions.into_iter().collect(),
        margins: Vec::new(),
        mean_step: StepSize(0),
        deviation_step: StepSize(0),
        direction_step: StepSize(0),
    };
    let variance = (squares(&known.deviations) / classes as f64 + within) / features as f64;
    let step = StepSize::at_most(step * variance.max(f64::MIN_POSITIVE).sqrt());
    (known.deviation_step, known.direction_step) = (step, step);
    // An error of the mean moves every class.
    known.mean_step = StepSize::at_most(step.size() / 3.0);
    let mut known = known.rounded();
    // What the directions lose by rounding is spread over all features.
    known.rest = ((within - squares(&known.directions)).max(0.0) / features as f64) as f32;
    known.margins = learn_margins(&simulations(images, validation, head, &known, seed));
    Ok(Some(known))
}

/// Returns directions `[R, F]` with `VᵀV` near the covariance of the residuals `[N, F]`, by orthogonal iteration.
fn main_directions(residuals: &Array2<f32>, freedom: f32, seed: u64) -> Array2<f32> {
    let (count, features) = residuals.dim();
    let rank = RANK.min(count / 2).min(features);
    let basis = main_subspace(
        residuals,
        rank,
        ITERATIONS,
        &mut stream(seed, Purpose::Directions, 0, 0),
    );
    let along = residuals.dot(&basis);
    let covariance = along.t().dot(&along) / freedom;
    basis.dot(&lower_factor(&covariance)).reversed_axes()
}

/// Returns the Cholesky factor `L` of a positive semidefinite matrix, `L Lᵀ = matrix`.
fn lower_factor(matrix: &Array2<f32>) -> Array2<f32> {
    let mut factor = Array2::<f32>::zeros(matrix.dim());
    for row in 0..matrix.nrows() {
        for column in 0..=row {
            let known = factor.row(row).dot(&factor.row(column));
            let rest = matrix[[row, column]] - known;
            factor[[row, column]] = if row == column {
                rest.max(0.0).sqrt()
            } else if factor[[column, column]] > 0.0 {
                rest / factor[[column, column]]
            } else {
                0.0
            };
        }
    }
    factor
}

/// Returns teachings of each class (at most [`MOST_SIMULATIONS`]) to the adapter without it.
fn simulations<'a>(
    images: &'a LabelledFeatures,
    validation: &'a LabelledFeatures,
    head: &Head,
    known: &ClassFeatures,
    seed: u64,
) -> Vec<Simulation<'a>> {
    let classes = head.classes();
    if classes < 2 || validation.features.is_empty() {
        return Vec::new();
    }
    let stride = classes.div_ceil(MOST_SIMULATIONS);
    let simulate = |class: usize| {
        let mut own: Vec<&[f32]> = (images.features.iter().zip(&images.labels))
            .filter(|&(_, &label)| label as usize == class)
            .map(|(row, _)| row.as_slice())
            .collect();
        let mut random = stream(seed, Purpose::Directions, 1, class as u64);
        let taught = TAUGHT.min(own.len());
        for at in 0..taught {
            let other = random.random_range(at..own.len());
            own.swap(at, other);
        }
        own.truncate(taught);
        let others = (validation.features.iter().zip(&validation.labels)).filter_map(|(row, &label)| {
            let label = label as usize;
            (label != class).then(|| (row.as_slice(), label - usize::from(label > class)))
        });
        Simulation {
            known: KnownClasses::without(head, known, class),
            own,
            images: others.collect(),
        }
    };
    (0..classes).step_by(stride).map(simulate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: usize = 64;

    /// Returns images of three classes, with the largest spread along the last 16 features together.
    fn images(count: usize, seed: u64) -> LabelledFeatures {
        let mut random = stream(seed, Purpose::Head, 0, 0);
        let mut normal = || (0..12).map(|_| random.random_range(0.0_f32..1.0)).sum::<f32>() - 6.0;
        let features = |at: usize| {
            let mut row: Vec<f32> = (0..FEATURES).map(|_| 0.3 * normal()).collect();
            let along = normal();
            row[FEATURES - 16..].iter_mut().for_each(|value| *value += along);
            row[at % 3] += 2.0;
            row
        };
        LabelledFeatures {
            features: (0..count).map(features).collect(),
            labels: (0..count).map(|at| at as u32 % 3).collect(),
        }
    }

    fn head() -> Head {
        let row = |class: usize| (0..FEATURES).map(move |at| if at == class { 4.0 } else { 0.0 });
        Head {
            features: FEATURES,
            weight: (0..3).flat_map(row).collect(),
            bias: vec![0.0; 3],
        }
    }

    #[test]
    fn means_spread_and_margins_are_those_of_the_images() {
        let known = learn_class_features(&images(600, 1), &images(300, 2), &head(), CLASS_FEATURES_STEP, 0)
            .unwrap()
            .unwrap();
        let step = known.deviation_step.size() as f32;
        for (class, mean) in known.class_means().enumerate() {
            for (at, value) in mean.iter().enumerate() {
                let expected = if at == class { 2.0 } else { 0.0 };
                assert!((value - expected).abs() < 0.2 + step, "{class} {at}: {value}");
            }
        }
        // The variance along the last features together: 16 + 0.09 · 16.
        let along = |direction: &[f32]| direction[FEATURES - 16..].iter().sum::<f32>() / 4.0;
        let main: f32 = known
            .directions
            .chunks(FEATURES)
            .map(|direction| along(direction).powi(2))
            .sum();
        assert!((main - 16.1).abs() < 3.0, "{main}");
        assert_eq!(known.margins.len(), crate::MARGIN_FRACTIONS.len());
        assert!(known.margins.is_sorted());
        assert_eq!(known.clone().rounded(), known);
    }

    #[test]
    fn a_class_without_images_has_no_features() {
        let mut few = images(30, 3);
        few.labels.iter_mut().for_each(|label| *label = (*label).min(1));
        assert!(
            learn_class_features(&few, &images(9, 4), &head(), CLASS_FEATURES_STEP, 0)
                .unwrap()
                .is_none()
        );
        few.labels[4] = 3;
        let error = learn_class_features(&few, &images(9, 4), &head(), CLASS_FEATURES_STEP, 0).unwrap_err();
        assert_eq!(error.to_string(), "a label: expected below 3, got 3");
    }

    #[test]
    fn a_taught_class_is_recognised_and_takes_about_the_wanted_fraction() {
        let images = images(900, 5);
        let all = learn_class_features(&images, &LabelledFeatures::default(), &head(), CLASS_FEATURES_STEP, 0)
            .unwrap()
            .unwrap();
        let known = KnownClasses::without(&head(), &all, 2);
        let of = |class: u32| -> Vec<&[f32]> {
            let rows = images.features.iter().zip(&images.labels);
            rows.filter(|&(_, &label)| label == class)
                .map(|(row, _)| row.as_slice())
                .collect()
        };
        let new = of(2);
        let row = known.fit(&new[..20]);
        let bias = known.bias(&row, 0.006);
        assert!((known.lost(&row, bias) - 0.006).abs() < 1e-3);
        let wins = |x: &[f32]| {
            let logit = |weight: &[f32], bias: f64| -> f64 {
                weight
                    .iter()
                    .zip(x)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x))
                    .sum::<f64>()
                    + bias
            };
            let old = head();
            let others = old.weight.chunks(FEATURES).take(2).map(|row| logit(row, 0.0));
            logit(&row.weight, bias) > others.fold(f64::NEG_INFINITY, f64::max)
        };
        let recalled = new[20..].iter().filter(|x| wins(x)).count();
        assert!(recalled > 270, "{recalled} of 280");
        let taken = of(0).iter().chain(&of(1)).filter(|x| wins(x)).count();
        assert!(taken < 12, "{taken} of 600");
    }
}
