//! Fitting of a backbone's background to images of many kinds.

use clr_adapters::{Background, Digest, Moments, Profile};
use ndarray::{Array1, Array2};

use crate::{
    Purpose,
    error::{LearningError, Result},
    orthogonal::main_subspace,
    stream,
};

/// Iterations that turn random directions into the main ones.
const ITERATIONS: usize = 30;
/// Directions beyond the used ones, which make the used ones more exact.
const SPARE: usize = 16;
/// Added to the eigenvalues of the correlation matrix before whitening, so that weak directions are not amplified
/// without bound.
const ROUND: f32 = 0.05;
/// Minimum eigenvalue of a used direction, relative to the largest.
const LEAST_EIGENVALUE: f32 = 1e-6;
/// Minimum number of kinds of images, and of images of each kind.
const LEAST_KINDS: usize = 3;
const LEAST_IMAGES: usize = 20;

/// Fits the background of a backbone to the block statistics `[S]` of images. `kinds[k]` contains those of one kind of
/// images; every kind has the same weight. The projection consists of the main directions of the total correlation,
/// whitened.
///
/// # Errors
/// [`LearningError::Mismatch`] for fewer than 3 kinds, fewer than 20 images of a kind, statistics of different lengths,
/// or statistics that do not vary or are not finite.
pub fn learn_background(backbone: Digest, kinds: &[Vec<Vec<f32>>], seed: u64) -> Result<Background> {
    if kinds.len() < LEAST_KINDS {
        return Err(LearningError::mismatch(
            "kinds of images",
            format!("at least {LEAST_KINDS}"),
            kinds.len(),
        ));
    }
    if let Some(few) = kinds.iter().find(|kind| kind.len() < LEAST_IMAGES) {
        let expected = format!("at least {LEAST_IMAGES}");
        return Err(LearningError::mismatch("images of a kind", expected, few.len()));
    }
    let statistics = kinds[0][0].len();
    if let Some(row) = kinds.iter().flatten().find(|row| row.len() != statistics) {
        return Err(LearningError::mismatch(
            "block statistics of an image",
            statistics,
            row.len(),
        ));
    }
    let (rows, deviations) = normalised(kinds, statistics);
    let rank = (Profile::DIMENSIONS + SPARE).min(statistics).min(rows.nrows());
    let basis = main_subspace(&rows, rank, ITERATIONS, &mut stream(seed, Purpose::Directions, 2, 0));
    let along = rows.dot(&basis);
    let eigenvalue = |column: usize| along.column(column).dot(&along.column(column));
    let least = LEAST_EIGENVALUE * (0..rank).map(eigenvalue).fold(0.0, f32::max);
    let projection: Vec<Vec<f32>> = (0..rank.min(Profile::DIMENSIONS))
        .filter(|&column| eigenvalue(column) > least)
        .map(|column| {
            let scale = 1.0 / (eigenvalue(column) + ROUND).sqrt();
            let weights = basis.column(column).to_owned() * scale;
            (weights.iter().zip(&deviations))
                .map(|(weight, &deviation)| if deviation > 0.0 { weight / deviation } else { 0.0 })
                .collect()
        })
        .collect();
    Background::new(backbone, &projection, |project| moments(kinds, project))
        .map_err(|error| LearningError::mismatch("background", "moments of varying, finite statistics", error))
}

/// Returns rows `[N, S]` whose `RᵀR` is the total correlation of the statistics, and their deviations `[S]`; 0 for a
/// statistic that does not vary.
fn normalised(kinds: &[Vec<Vec<f32>>], statistics: usize) -> (Array2<f32>, Array1<f32>) {
    let (means, centre) = means(kinds, statistics);
    let count = kinds.iter().map(Vec::len).sum::<usize>() + kinds.len();
    let mut rows = Array2::<f32>::zeros((count, statistics));
    let mut next = rows.rows_mut().into_iter();
    let mut push = |values: Array1<f64>| {
        if let Some(mut row) = next.next() {
            row.assign(&values.mapv(|value| value as f32));
        }
    };
    let kinds_root = (kinds.len() as f64).sqrt();
    for (kind, mean) in kinds.iter().zip(&means) {
        let weight = 1.0 / (kinds_root * (kind.len() as f64 - 1.0).sqrt());
        for image in kind {
            push((wide(image) - mean) * weight);
        }
        push((mean - &centre) / kinds_root);
    }
    let deviations = rows.map_axis(ndarray::Axis(0), |column| column.dot(&column).sqrt());
    let largest = deviations.iter().copied().fold(0.0_f32, f32::max);
    let deviations = deviations.mapv(|value| if value > 1e-6 * largest { value } else { 0.0 });
    for (mut column, &deviation) in rows.columns_mut().into_iter().zip(&deviations) {
        let scale = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
        column.mapv_inplace(|value| value * scale);
    }
    (rows, deviations)
}

/// Returns the moments of the coordinates of all images.
fn moments(kinds: &[Vec<Vec<f32>>], project: &dyn Fn(&[f32]) -> Vec<f32>) -> Moments {
    let points: Vec<Vec<Vec<f32>>> = kinds
        .iter()
        .map(|kind| kind.iter().map(|image| project(image)).collect())
        .collect();
    let dimensions = points[0][0].len();
    let count = kinds.len() as f64;
    let (means, centre) = means(&points, dimensions);
    let mut within = Array2::<f64>::zeros((dimensions, dimensions));
    for (kind, mean) in points.iter().zip(&means) {
        let differences: Vec<f64> = kind.iter().flat_map(|point| wide(point) - mean).collect();
        let Ok(differences) = Array2::from_shape_vec((kind.len(), dimensions), differences) else {
            continue;
        };
        within += &(differences.t().dot(&differences) / ((kind.len() as f64 - 1.0) * count));
    }
    let between = means.iter().fold(Array1::<f64>::zeros(dimensions), |sum, mean| {
        sum + (mean - &centre).mapv(|value| value * value)
    }) / count;
    Moments {
        mean: centre.iter().map(|&value| value as f32).collect(),
        variance: (0..dimensions)
            .map(|at| (within[[at, at]] + between[at]) as f32)
            .collect(),
        within: (0..dimensions)
            .flat_map(|row| {
                within
                    .row(row)
                    .iter()
                    .take(row + 1)
                    .map(|&value| value as f32)
                    .collect::<Vec<_>>()
            })
            .collect(),
    }
}

fn wide(values: &[f32]) -> Array1<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Returns the mean of each kind, and the mean of these means.
fn means(kinds: &[Vec<Vec<f32>>], length: usize) -> (Vec<Array1<f64>>, Array1<f64>) {
    let zeros = || Array1::<f64>::zeros(length);
    let mean = |kind: &Vec<Vec<f32>>| kind.iter().fold(zeros(), |sum, row| sum + wide(row)) / kind.len() as f64;
    let means: Vec<Array1<f64>> = kinds.iter().map(mean).collect();
    let centre = means.iter().fold(zeros(), |sum, mean| sum + mean) / kinds.len() as f64;
    (means, centre)
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    const STATISTICS: usize = 12;

    /// Returns kinds of images that vary in a few directions. The last statistic is constant.
    fn kinds(count: usize, images: usize) -> Vec<Vec<Vec<f32>>> {
        let mut random = stream(3, Purpose::Head, 0, 0);
        (0..count)
            .map(|kind| {
                (0..images)
                    .map(|_| {
                        let shared = random.random_range(-1.0_f32..1.0);
                        (0..STATISTICS)
                            .map(|at| match at {
                                11 => 3.0,
                                at => (kind * at) as f32 * 0.3 + shared * at as f32 + random.random_range(-4.0..4.0),
                            })
                            .collect()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn coordinates_of_the_images_are_nearly_uncorrelated_and_their_moments_are_stated() {
        let kinds = kinds(5, 200);
        let background = learn_background(Digest([1; 32]), &kinds, 7).unwrap();
        assert_eq!(
            (background.statistics(), background.dimensions()),
            (STATISTICS, STATISTICS - 1)
        );
        let points: Vec<Vec<f32>> = kinds
            .iter()
            .flatten()
            .map(|image| background.coordinates(image))
            .collect();
        let count = points.len() as f64;
        let covariance = |a: usize, b: usize| {
            let mean = |at: usize| points.iter().map(|point| f64::from(point[at])).sum::<f64>() / count;
            let (ma, mb) = (mean(a), mean(b));
            points
                .iter()
                .map(|point| (f64::from(point[a]) - ma) * (f64::from(point[b]) - mb))
                .sum::<f64>()
                / count
        };
        for a in 0..6 {
            for b in 0..a {
                let correlation = covariance(a, b) / (covariance(a, a) * covariance(b, b)).sqrt();
                assert!(correlation.abs() < 0.2, "{a} {b}: {correlation}");
            }
        }
        // The strongest direction is whitened, and an image of the collection is less strange than one far away.
        assert!((0.8..1.05).contains(&covariance(0, 0)), "{}", covariance(0, 0));
        let far: Vec<f32> = points[0].iter().map(|value| value + 20.0).collect();
        assert!(background.log_density(&points[0]) > background.log_density(&far) + 10.0);
        assert_eq!(learn_background(Digest([1; 32]), &kinds, 7).unwrap(), background);
    }

    #[test]
    fn too_few_kinds_or_images_are_refused_with_the_least_number() {
        let error = |kinds: &[Vec<Vec<f32>>]| learn_background(Digest([1; 32]), kinds, 7).unwrap_err().to_string();
        assert!(error(&kinds(2, 50)).contains("at least 3"));
        assert!(error(&kinds(3, 19)).contains("at least 20"));
        let mut uneven = kinds(3, 20);
        uneven[1][4].pop();
        assert!(error(&uneven).contains("block statistics"));
    }
}
