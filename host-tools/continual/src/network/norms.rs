//! Batch norms: scales, biases and running statistics.

use candle_core::{Device, Var};
use clr_learning::ChannelStatistics;
use clr_onnx::BatchNorm;

use super::weights::{copied, variable};
use crate::error::Result;

/// Mean and variance `[C]` that a norm uses for inference.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStatistics {
    /// μ.
    pub mean: Vec<f32>,
    /// σ²: an average of unbiased variances.
    pub variance: Vec<f32>,
}

impl RunningStatistics {
    /// Moves the averages towards a batch, as PyTorch's `BatchNorm2d` does.
    pub fn update(&mut self, batch: &ChannelStatistics, momentum: f32) {
        let unbiased = batch.count as f32 / (batch.count as f32 - 1.0);
        let pairs = |running: &mut [f32], new: &[f32], factor: f32| {
            for (running, new) in running.iter_mut().zip(new) {
                *running = (1.0 - momentum) * *running + momentum * factor * new;
            }
        };
        pairs(&mut self.mean, &batch.mean, 1.0);
        pairs(&mut self.variance, &batch.variance, unbiased);
    }

    /// Returns the statistics in the form that [`batch_norm`](crate::ops::batch_norm) uses.
    pub(super) fn fixed(&self) -> ChannelStatistics {
        ChannelStatistics {
            mean: self.mean.clone(),
            variance: self.variance.clone(),
            count: 0,
        }
    }
}

/// A set of all norms of a network.
#[derive(Clone, Default)]
pub struct Norms {
    /// γ and β `[C]` of each norm.
    affine: Vec<[Var; 2]>,
    running: Vec<RunningStatistics>,
}

impl Norms {
    pub(super) fn push(&mut self, norm: &BatchNorm, device: &Device) -> Result<()> {
        self.affine
            .push([variable(&norm.scale, device)?, variable(&norm.bias, device)?]);
        self.running.push(RunningStatistics {
            mean: norm.mean.data().to_vec(),
            variance: norm.variance.data().to_vec(),
        });
        Ok(())
    }

    /// Returns the number of norms.
    pub fn len(&self) -> usize {
        self.affine.len()
    }

    /// Returns whether the network has no norms.
    pub fn is_empty(&self) -> bool {
        self.affine.is_empty()
    }

    /// Returns γ and β of a norm.
    pub fn affine(&self, index: usize) -> &[Var; 2] {
        &self.affine[index]
    }

    /// Returns the running statistics of all norms.
    pub fn running(&self) -> &[RunningStatistics] {
        &self.running
    }

    /// Returns the running statistics of all norms.
    pub fn running_mut(&mut self) -> &mut [RunningStatistics] {
        &mut self.running
    }

    /// Returns γ and β of all norms, in a fixed order.
    pub fn variables(&self) -> Vec<Var> {
        self.affine.iter().flatten().cloned().collect()
    }

    /// Returns a copy with separate variables.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if there is not enough memory.
    pub fn copied(&self) -> Result<Self> {
        let affine = self.affine.iter();
        Ok(Self {
            affine: affine
                .map(|[gamma, beta]| Ok([copied(gamma)?, copied(beta)?]))
                .collect::<Result<_>>()?,
            running: self.running.clone(),
        })
    }
}
