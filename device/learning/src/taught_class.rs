//! A new row of the head, fitted against what an adapter knows of its classes, without old images.
//!
//! The row `w` with bias `b` competes with the old classes: an image with features `x` goes to the new class if
//! `w · x + b` is above its highest old logit. The fit minimises
//!
//! ```text
//! mean over the new images of  softplus(m(x) − w·x − b)
//! + mean over old classes c of softplus(w·μ_c + b − m(μ_c) + ½ (w − W_c)ᵀ Σ (w − W_c))  +  λ/2 ‖w‖²
//! ```
//!
//! where `μ_c` are the class means, `m` is the logarithm of the sum of the exponentials of the old logits, and `Σ` is the
//! covariance within classes: the main directions, and the same variance in every other one. The quadratic term is what the spread of a class adds to the
//! expected loss of its images. The bias is then set by the fraction of old images that it would take, from quantiles of
//! the margins of real images (see [`learn_margins`]).

use clr_adapters::{ClassFeatures, Head};

use crate::{
    lbfgs::dot,
    row_fit::{NewImage, OldClass, RowFit, along, distance, row_distance},
};

/// Penalty of the squared length of the row, for features with the mean variance of one.
const PENALTY: f64 = 0.03;
/// Fractions of the images of old classes at which [`ClassFeatures::margins`] are given, in increasing order.
pub const MARGIN_FRACTIONS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
];
/// Margins of typical tasks at these fractions (docs/results/2026-11-30-class-features.md). The mean of them and an
/// adapter's own margins is more reliable than either.
const TYPICAL: [f32; 16] = [
    -7.65, -6.7, -6.3, -5.95, -5.45, -5.15, -4.75, -4.3, -4.0, -3.55, -3.05, -2.6, -2.25, -1.7, -1.3, -0.65,
];
/// Fraction of an old class's images that are lost if its mean is far on the side of the new class.
const MOST: f64 = 0.5;

/// The classes of a head, and what is known of their images.
#[derive(Clone, Debug)]
pub struct KnownClasses {
    head: Head,
    /// `[F]` each.
    means: Vec<Vec<f32>>,
    /// `[F]` each, scaled to the deviation.
    directions: Vec<Vec<f32>>,
    /// Variance of every other direction.
    rest: f64,
    /// At [`MARGIN_FRACTIONS`].
    margins: Vec<f64>,
    centre: Vec<f32>,
    /// Largest old logit of each mean, and their log-sum-exp.
    logits_of_means: Vec<[f64; 2]>,
    penalty: f64,
}

/// The row of a new class.
#[derive(Clone, Debug, PartialEq)]
pub struct TaughtRow {
    /// `[F]`.
    pub weight: Vec<f32>,
    /// For each old class, the bias at which its mean would change its class.
    gaps: Vec<f64>,
    /// For each old class, the deviation of its images' gaps along the main directions.
    deviations: Vec<f64>,
}

impl KnownClasses {
    /// Creates the classes of `head` with what an adapter knows of them. The sizes must agree, as in a valid adapter.
    pub fn new(head: &Head, features: &ClassFeatures) -> Self {
        let size = head.features.max(1);
        let own = Some(&features.margins).filter(|own| own.len() == TYPICAL.len());
        let margins = TYPICAL.iter().enumerate().map(|(index, &typical)| {
            let own = own.map_or(typical, |own| own[index]);
            0.5 * (f64::from(own) + f64::from(typical))
        });
        let mut known = Self {
            head: head.clone(),
            means: features.class_means().collect(),
            directions: features.directions.chunks_exact(size).map(<[f32]>::to_vec).collect(),
            rest: f64::from(features.rest),
            margins: margins.collect(),
            centre: features.mean.clone(),
            logits_of_means: Vec::new(),
            penalty: PENALTY * features.variance().max(f64::MIN_POSITIVE),
        };
        known.logits_of_means = known.means.iter().map(|mean| known.highest_and_sum(mean)).collect();
        known
    }

    /// Creates the classes of `head` except `class`, as before it was taught. `class` must be one of them.
    pub fn without(head: &Head, features: &ClassFeatures, class: usize) -> Self {
        let (size, own) = (head.features, class * head.features..(class + 1) * head.features);
        let (mut head, mut features) = (head.clone(), features.clone());
        head.weight.drain(own.clone());
        head.bias.remove(class);
        debug_assert_eq!(features.features(), size);
        features.deviations.drain(own);
        Self::new(&head, &features)
    }

    /// Returns the old logits of features `[F]`.
    fn logits(&self, x: &[f32]) -> impl Iterator<Item = f64> {
        let rows = self.head.weight.chunks_exact(self.head.features.max(1));
        rows.zip(&self.head.bias)
            .map(|(row, &bias)| dot(row, x) + f64::from(bias))
    }

    /// Returns the highest old logit, and the logarithm of the sum of exponentials of all.
    fn highest_and_sum(&self, x: &[f32]) -> [f64; 2] {
        let logits: Vec<f64> = self.logits(x).collect();
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        [
            highest,
            highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln(),
        ]
    }

    /// Returns the problem of a new class with these features `[F]`, each with the index of its image.
    fn row_fit<'a>(&self, own: impl Iterator<Item = (usize, &'a [f32])>) -> RowFit<'_> {
        let centred = |x: &[f32]| -> Vec<f32> { x.iter().zip(&self.centre).map(|(x, centre)| x - centre).collect() };
        let rows = self.head.weight.chunks_exact(self.head.features.max(1));
        let old = (rows.zip(&self.means).zip(&self.logits_of_means)).map(|((row, mean), [_, sum])| OldClass {
            row,
            projected: along(&self.directions, row),
            mean: centred(mean),
            reference: *sum,
        });
        let new = own.map(|(image, x)| NewImage {
            image,
            features: centred(x),
            reference: self.highest_and_sum(x)[1],
        });
        RowFit {
            new: new.collect(),
            old: old.collect(),
            directions: &self.directions,
            rest: self.rest,
            penalty: self.penalty,
        }
    }

    /// Fits the row of a new class to the features `[F]` of its images, of which there must be at least one.
    pub fn fit(&self, own: &[&[f32]]) -> TaughtRow {
        self.solved(&self.row_fit(own.iter().copied().enumerate()))
    }

    /// Returns for each image the weights `[F]` that the class would have without it. There must be at least two.
    pub fn fit_without_each(&self, own: &[&[f32]]) -> Vec<Vec<f32>> {
        self.solved_without_each(&self.row_fit(own.iter().copied().enumerate()), own.len())
    }

    /// Fits the row of a new class to the features `[F]` of the variants of its images. There must be at least one image.
    pub fn fit_variants(&self, images: &[Vec<Vec<f32>>]) -> TaughtRow {
        self.solved(&self.row_fit(variants(images)))
    }

    /// Returns for each image the weights `[F]` of [`KnownClasses::fit_variants`] without it and its variants. There
    /// must be at least two images.
    pub fn fit_variants_without_each(&self, images: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
        self.solved_without_each(&self.row_fit(variants(images)), images.len())
    }

    fn solved(&self, fit: &RowFit<'_>) -> TaughtRow {
        let mut weight = fit.solve(None, vec![0.0; self.head.features + 1]);
        weight.truncate(self.head.features);
        self.row(weight)
    }

    fn solved_without_each(&self, fit: &RowFit<'_>, images: usize) -> Vec<Vec<f32>> {
        let all = fit.solve(None, vec![0.0; self.head.features + 1]);
        let without = |image| {
            // The problem hardly differs from the one with all images.
            let mut weight = fit.solve(Some(image), all.clone());
            weight.truncate(self.head.features);
            weight
        };
        (0..images).map(without).collect()
    }

    /// Returns the row with these weights `[F]`, such as those of a fit after rounding.
    pub fn row(&self, weight: Vec<f32>) -> TaughtRow {
        let rows = self.head.weight.chunks_exact(self.head.features.max(1));
        let gaps =
            (self.means.iter().zip(&self.logits_of_means)).map(|(mean, [highest, _])| highest - dot(&weight, mean));
        let projected = along(&self.directions, &weight);
        let deviations = rows.map(|row| {
            let within = distance(&projected, &along(&self.directions, row));
            (within + self.rest * row_distance(&weight, row)).sqrt().max(1e-9)
        });
        TaughtRow {
            gaps: gaps.collect(),
            deviations: deviations.collect(),
            weight,
        }
    }

    /// Returns the bias at which the new class takes the fraction `lost` of the images of old classes, as far as margins
    /// tell.
    pub fn bias(&self, row: &TaughtRow, lost: f64) -> f64 {
        let range = row.gaps.iter().zip(&row.deviations);
        let mut low = range
            .clone()
            .map(|(gap, deviation)| gap - 60.0 * deviation)
            .fold(f64::INFINITY, f64::min);
        let mut high = range
            .map(|(gap, deviation)| gap + 60.0 * deviation)
            .fold(f64::NEG_INFINITY, f64::max);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.lost(row, middle) > lost {
                high = middle;
            } else {
                low = middle;
            }
        }
        low
    }

    /// Returns the fraction of the images of old classes that the new class takes with this bias.
    pub fn lost(&self, row: &TaughtRow, bias: f64) -> f64 {
        self.lost_of_each(row, bias).sum::<f64>() / row.gaps.len().max(1) as f64
    }

    /// Returns the same fraction for each old class.
    pub fn lost_of_each<'a>(&'a self, row: &'a TaughtRow, bias: f64) -> impl Iterator<Item = f64> + 'a {
        let classes = row.gaps.iter().zip(&row.deviations);
        classes.map(move |(gap, deviation)| self.fraction((bias - gap) / deviation))
    }

    /// Returns the fraction of a class's images whose standardised margin is below `z`, interpolated in its logarithm.
    fn fraction(&self, z: f64) -> f64 {
        let above = self.margins.partition_point(|&margin| margin <= z);
        if above == 0 {
            return 0.0;
        }
        let (Some(&next), Some(&fraction)) = (self.margins.get(above), MARGIN_FRACTIONS.get(above)) else {
            return MOST;
        };
        let (start, known) = (self.margins[above - 1], MARGIN_FRACTIONS[above - 1]);
        let share = (z - start) / (next - start).max(1e-12);
        known * (fraction / known).powf(share)
    }
}

/// Returns the features of all variants, each with the index of its image.
fn variants(images: &[Vec<Vec<f32>>]) -> impl Iterator<Item = (usize, &[f32])> {
    (images.iter().enumerate()).flat_map(|(image, variants)| variants.iter().map(move |x| (image, x.as_slice())))
}

/// Returns the standardised margins of one simulated teaching: for the features of validation images of old classes
/// (`[F]`, with their class), how far their gap is from that of their class's mean, in the deviations of the row. Images
/// that the old classes already get wrong have none.
fn standardised(known: &KnownClasses, row: &TaughtRow, images: &[(&[f32], usize)]) -> Vec<f64> {
    let mut margins = Vec::new();
    for &(x, class) in images {
        let logits: Vec<f64> = known.logits(x).collect();
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logits.get(class).is_some_and(|&own| own >= highest) {
            let gap = highest - dot(&row.weight, x);
            margins.push((gap - row.gaps[class]) / row.deviations[class]);
        }
    }
    margins
}

/// One simulated teaching: the classes without the one that is taught, its row, and the validation images of the others.
pub struct Simulation<'a> {
    /// The other classes.
    pub known: KnownClasses,
    /// Features `[F]` of the images from which the class is taught.
    pub own: Vec<&'a [f32]>,
    /// Features `[F]` and class, among the others, of their validation images.
    pub images: Vec<(&'a [f32], usize)>,
}

/// Returns the margins at [`MARGIN_FRACTIONS`], over several simulated teachings of equal weight; empty if no simulation
/// has images. The fractions count all images, also those that the old classes get wrong.
pub fn learn_margins(simulations: &[Simulation<'_>]) -> Vec<f32> {
    let mut weighted: Vec<(f64, f64)> = Vec::new();
    for simulation in simulations.iter().filter(|simulation| !simulation.images.is_empty()) {
        let row = simulation.known.fit(&simulation.own);
        let weight = 1.0 / (simulation.images.len() * simulations.len()) as f64;
        let margins = standardised(&simulation.known, &row, &simulation.images);
        weighted.extend(margins.into_iter().map(|margin| (margin, weight)));
    }
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(&(last, _)) = weighted.last() else {
        return Vec::new();
    };
    let mut sum = 0.0;
    let mut margins = Vec::with_capacity(MARGIN_FRACTIONS.len());
    for (margin, weight) in weighted {
        sum += weight;
        while margins.len() < MARGIN_FRACTIONS.len() && sum >= MARGIN_FRACTIONS[margins.len()] {
            margins.push(margin as f32);
        }
    }
    margins.resize(MARGIN_FRACTIONS.len(), last as f32);
    margins
}
