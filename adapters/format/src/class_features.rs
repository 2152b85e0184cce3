//! What an adapter knows of its task's data: features of its classes, so that a device can teach and tune without old
//! images.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::StepSize;

/// Mean features of the classes, the main directions of the spread within classes, and margins of real images, all
/// measured on the training run's images with the adapter itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFeatures {
    /// Mean of the class means, `[F]`.
    pub mean: Vec<f32>,
    /// Mean feature of each class minus `mean`, `[classes, F]`.
    pub deviations: Vec<f32>,
    /// Directions of the largest variance within classes, each scaled to its standard deviation, `[R, F]`.
    pub directions: Vec<f32>,
    /// Variance per feature that is not along `directions`.
    pub rest: f32,
    /// Quantiles of standardised margins of validation images, as the learner that wrote them defines them.
    pub margins: Vec<f32>,
    /// Step of `mean`.
    pub mean_step: StepSize,
    /// Step of `deviations`.
    pub deviation_step: StepSize,
    /// Step of `directions`.
    pub direction_step: StepSize,
}

impl ClassFeatures {
    /// Returns the number of features, `F`.
    #[must_use]
    pub fn features(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of directions, `R`.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.directions.len() / self.features().max(1)
    }

    /// Returns the mean feature `[F]` of each class, in the order of the labels.
    pub fn class_means(&self) -> impl Iterator<Item = Vec<f32>> {
        let rows = self.deviations.chunks_exact(self.features().max(1));
        rows.map(|row| {
            row.iter()
                .zip(&self.mean)
                .map(|(deviation, mean)| mean + deviation)
                .collect()
        })
    }

    /// Appends a class with this mean feature `[F]`, rounded to the step.
    pub fn push_class(&mut self, mean: &[f32]) {
        let (own, step) = (&self.mean, self.deviation_step);
        let deviations = mean.iter().zip(own).map(|(value, mean)| step.nearest(value - mean));
        self.deviations.extend(deviations);
    }

    /// Removes a class; those after it move up. Another class than the existing ones is ignored.
    pub(crate) fn remove_class(&mut self, class: usize) {
        let own = class * self.features()..(class + 1) * self.features();
        if own.end <= self.deviations.len() {
            self.deviations.drain(own);
        }
    }

    /// Sets the mean feature `[F]` of `class`, rounded to the step. Another class than the existing ones is ignored.
    pub fn set_class(&mut self, class: usize, mean: &[f32]) {
        let features = self.features();
        let own = self.deviations.chunks_exact_mut(features.max(1)).nth(class);
        for (deviation, (value, mean)) in own.into_iter().flatten().zip(mean.iter().zip(&self.mean)) {
            *deviation = self.deviation_step.nearest(value - mean);
        }
    }

    /// Returns the mean variance of the features over all images: between the classes, along the directions, and the rest.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let squares = |values: &[f32]| {
            values
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum::<f64>()
        };
        let features = self.features().max(1) as f64;
        let classes = (self.deviations.len() as f64 / features).max(1.0);
        (squares(&self.deviations) / classes + squares(&self.directions)) / features + f64::from(self.rest)
    }

    /// Rounds all values to their steps.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        self.mean = self.mean_step.round(&self.mean);
        self.deviations = self.deviation_step.round(&self.deviations);
        self.directions = self.direction_step.round(&self.directions);
        self
    }
}
