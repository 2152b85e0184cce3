//! Background of a backbone: coordinates of images and what images in general look like there.
//!
//! Profiles of tasks are distributions of these coordinates, and their scores are relative to the background. A task's
//! score therefore depends on no other task. The background is fitted once per backbone, from images of many kinds, and
//! delivered together with it (`docs/reference/auto.md`).

mod file;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use file::BackgroundError;

use crate::{
    Digest, StepSize,
    triangle::{Triangle, dot},
};

/// Degrees of freedom of the distribution of images in general (Student's t): heavy tails, since no collection of images
/// is complete.
const FREEDOM: f64 = 1.0;
/// Isotropic part of the background's variance, relative to the mean variance.
const ROUND: f64 = 0.02;

/// Identifier of a [`Background`]: the first bytes of the SHA-256 of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackgroundId(pub [u8; 8]);

impl core::fmt::Display for BackgroundId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Background of a backbone: a projection of block statistics `[S]` to coordinates `[D]`, and the distribution of the
/// coordinates of mixed images.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    /// Digest of the backbone.
    backbone: Digest,
    /// Number of block statistics, `S`.
    statistics: usize,
    /// Codes of the projection, `[D, S]`.
    codes: Vec<i8>,
    /// Step of each row of codes, `[D]`.
    steps: Vec<StepSize>,
    moments: Moments,
    id: BackgroundId,
    /// Precomputed constant of [`Background::log_density`].
    log_volume: f64,
}

/// Moments of the coordinates of mixed images.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The mean `[D]`.
    pub mean: Vec<f32>,
    /// The variance of each coordinate, `[D]`. The projection makes coordinates uncorrelated.
    pub variance: Vec<f32>,
    /// The covariance within kinds of images, row by row of the lower triangle: `[D (D + 1) / 2]`.
    pub within: Vec<f32>,
}

impl Background {
    /// Creates a background from rows `[D, S]` of a projection, which are rounded to steps of a quarter of their root mean
    /// square, and from the moments of the coordinates that the rounded rows give. `moments` is called with a function
    /// from block statistics `[S]` to coordinates `[D]`.
    ///
    /// # Errors
    /// [`BackgroundError`] if the lengths do not fit, a value is not finite, or a variance is not above 0.
    pub fn new(
        backbone: Digest,
        rows: &[Vec<f32>],
        moments: impl FnOnce(&dyn Fn(&[f32]) -> Vec<f32>) -> Moments,
    ) -> Result<Self, BackgroundError> {
        let statistics = rows.first().map_or(0, Vec::len);
        let (mut codes, mut steps) = (Vec::new(), Vec::new());
        for row in rows {
            let squares: f64 = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
            let step = StepSize::at_most(libm::sqrt(squares / statistics.max(1) as f64) / 4.0);
            codes.extend(
                row.iter()
                    .map(|&value| step.code(value).unwrap_or(0).clamp(-127, 127) as i8),
            );
            steps.push(step);
        }
        let moments = moments(&|point: &[f32]| project(&codes, &steps, point));
        Ok(Self::assemble(backbone, statistics, codes, steps, moments)?.0)
    }

    /// Returns the background of these parts, and the bytes of its file, which give its identifier.
    fn assemble(
        backbone: Digest,
        statistics: usize,
        codes: Vec<i8>,
        steps: Vec<StepSize>,
        moments: Moments,
    ) -> Result<(Self, Vec<u8>), BackgroundError> {
        let mut background = Self {
            backbone,
            statistics,
            codes,
            steps,
            moments,
            id: BackgroundId([0; 8]),
            log_volume: 0.0,
        };
        background.validate()?;
        let round = background.round();
        let volume = background.moments.variance.iter();
        background.log_volume = volume.map(|&value| libm::log(f64::from(value) + round)).sum::<f64>() / 2.0;
        let bytes = background.encode();
        background.id.0.copy_from_slice(&Digest::of(&bytes).0[..8]);
        Ok((background, bytes))
    }

    /// Returns the digest of the backbone that the background belongs to.
    #[must_use]
    pub fn backbone(&self) -> Digest {
        self.backbone
    }

    /// Returns the identifier that profiles name.
    #[must_use]
    pub fn id(&self) -> BackgroundId {
        self.id
    }

    /// Returns the number of coordinates, `D`.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.steps.len()
    }

    /// Returns the number of block statistics, `S`.
    #[must_use]
    pub fn statistics(&self) -> usize {
        self.statistics
    }

    /// Returns the coordinates `[D]` of an image with these block statistics `[S]`.
    ///
    /// The order of summation is fixed, so equal input gives equal bits.
    #[must_use]
    pub fn coordinates(&self, statistics: &[f32]) -> Vec<f32> {
        project(&self.codes, &self.steps, statistics)
    }

    /// Returns the logarithm of the density of images in general at these coordinates `[D]`.
    #[must_use]
    pub fn log_density(&self, coordinates: &[f32]) -> f64 {
        let round = self.round();
        let moments = self.moments.mean.iter().zip(&self.moments.variance);
        let squares: f64 = (coordinates.iter().zip(moments))
            .map(|(&value, (&mean, &variance))| {
                let difference = f64::from(value) - f64::from(mean);
                difference * difference / (f64::from(variance) + round)
            })
            .sum();
        student_t(self.dimensions() as f64, FREEDOM, squares) - self.log_volume
    }

    /// Returns the covariance of coordinates within kinds of images.
    pub(crate) fn within_covariance(&self) -> Triangle {
        let mut rest = self.moments.within.as_slice();
        (0..self.dimensions())
            .map(|row| {
                let (own, below) = rest.split_at(row + 1);
                rest = below;
                own.iter().map(|&value| f64::from(value)).collect()
            })
            .collect()
    }

    fn round(&self) -> f64 {
        let total: f64 = self.moments.variance.iter().map(|&value| f64::from(value)).sum();
        ROUND * total / self.dimensions() as f64
    }
}

/// Returns the product of a matrix of codes with a vector.
fn project(codes: &[i8], steps: &[StepSize], statistics: &[f32]) -> Vec<f32> {
    let mut row = Vec::with_capacity(statistics.len());
    let rows = codes.chunks_exact(statistics.len().max(1));
    rows.zip(steps)
        .map(|(codes, step)| {
            row.clear();
            row.extend(codes.iter().map(|&code| f32::from(code)));
            dot(&row, statistics) * step.size() as f32
        })
        .collect()
}

/// Returns the logarithm of Student's t density at a point whose whitened squares sum up to `squares`, without the
/// volume.
pub(crate) fn student_t(dimensions: f64, freedom: f64, squares: f64) -> f64 {
    libm::lgamma(f64::midpoint(freedom, dimensions))
        - libm::lgamma(freedom / 2.0)
        - dimensions / 2.0 * libm::log(freedom * core::f64::consts::PI)
        - f64::midpoint(freedom, dimensions) * libm::log(1.0 + squares / freedom)
}
