//! Statistics of norms: running averages, blends, and statistics of several batches.

use clr_runtime::ChannelStatistics;

use crate::NormedSite;

impl NormedSite {
    /// Updates running averages as PyTorch does: `r ← (1 − momentum) · r + momentum · batch`, with the unbiased
    /// variance.
    pub fn update_running(&mut self, batch: &ChannelStatistics, momentum: f32) {
        let count = batch.count as f32;
        let unbiased = count / (count - 1.0).max(1.0);
        let update = |old: &[f32], new: &[f32], factor: f32| -> Vec<f32> {
            let pairs = old.iter().zip(new);
            pairs
                .map(|(old, new)| (1.0 - momentum) * old + momentum * factor * new)
                .collect()
        };
        let mean = update(&self.norm.mean, &batch.mean, 1.0);
        let variance = update(&self.norm.variance, &batch.variance, unbiased);
        self.set_statistics(mean, variance);
    }

    /// Sets the statistics to `(1 − blend) · current + blend · given`.
    pub fn blend_statistics(&mut self, given: &ChannelStatistics, blend: f32) {
        let mix = |old: &[f32], new: &[f32]| -> Vec<f32> {
            let pairs = old.iter().zip(new);
            pairs.map(|(old, new)| (1.0 - blend) * old + blend * new).collect()
        };
        let mean = mix(&self.norm.mean, &given.mean);
        let variance = mix(&self.norm.variance, &given.variance);
        self.set_statistics(mean, variance);
    }
}

/// Statistics of a site over several batches, accumulated in f64.
#[derive(Clone, Debug, Default)]
pub struct PooledStatistics {
    count: usize,
    sums: Vec<[f64; 2]>,
}

impl PooledStatistics {
    /// Adds a batch.
    pub fn add(&mut self, batch: &ChannelStatistics) {
        let count = batch.count as f64;
        self.count += batch.count;
        self.sums.resize(batch.mean.len(), [0.0; 2]);
        for ((sums, mean), variance) in self.sums.iter_mut().zip(&batch.mean).zip(&batch.variance) {
            let (mean, variance) = (f64::from(*mean), f64::from(*variance));
            sums[0] += count * mean;
            sums[1] += count * (variance + mean * mean);
        }
    }

    /// Mean and biased variance of all batches.
    pub fn statistics(&self) -> ChannelStatistics {
        let statistics = self.sums.iter().map(|sums| {
            let [mean, square] = sums.map(|sum| sum / self.count as f64);
            (mean as f32, (square - mean * mean).max(0.0) as f32)
        });
        let (mean, variance) = statistics.unzip();
        ChannelStatistics {
            mean,
            variance,
            count: self.count,
        }
    }
}
