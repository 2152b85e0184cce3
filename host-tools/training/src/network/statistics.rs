//! The statistics of norms: running averages, and re-estimation on a task's own images.

use candle_core::Tensor;
use clr_learning::{Network, NormedSite, Site};

use super::{CandleBackbone, TaskTensors};
use crate::{error::Result, ops::BatchStats};

/// PyTorch's running update: `r ← (1 − momentum) · r + momentum · batch`, with the unbiased variance of `count` values.
pub(super) fn update_running(site: &mut NormedSite, stats: &BatchStats, count: usize, momentum: f32) {
    let unbiased = count as f32 / (count as f32 - 1.0).max(1.0);
    let blend = |old: &[f32], new: &[f32], factor: f32| -> Vec<f32> {
        old.iter()
            .zip(new)
            .map(|(old, new)| (1.0 - momentum) * old + momentum * factor * new)
            .collect()
    };
    let mean = blend(&site.norm.mean, &stats.mean, 1.0);
    let variance = blend(&site.norm.variance, &stats.var, unbiased);
    site.set_statistics(mean, variance);
}

/// Sums over batches for one site, in f64.
struct Moments {
    count: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl CandleBackbone {
    /// Moves the statistics of every trained norm of `network` towards those of a task's images:
    /// `(1 − blend) · backbone's + blend · task's`, in one pass over `batches` of `[N, 3, H, W]`, each layer reading what
    /// the blended layers before it produce. The norm's scale and bias stay.
    pub fn estimate_statistics(
        &self,
        network: &mut Network,
        batches: impl IntoIterator<Item = Result<Tensor>>,
        blend: f32,
    ) -> Result<()> {
        let task = TaskTensors::new(network, self.device(), false)?;
        let mut moments: Vec<Option<Moments>> = network.sites().iter().map(|_| None).collect();
        for batch in batches {
            self.run(&batch?, |index, conv| {
                let (frozen, tensors, site) = (&self.plan.sites[index], &task.sites[index], &network.sites()[index]);
                let statistics = tensors.forward_batch(conv, None)?;
                let (Some((_, stats)), Site::Normed(normed)) = (statistics, site) else {
                    return Ok(tensors.forward(conv, frozen)?);
                };
                let (n, channels, h, w) = conv.dims4()?;
                let count = (n * h * w) as f64;
                let moments = moments[index].get_or_insert_with(|| Moments {
                    count: 0.0,
                    sum: vec![0.0; channels],
                    square: vec![0.0; channels],
                });
                moments.count += count;
                for channel in 0..channels {
                    let (mean, variance) = (f64::from(stats.mean[channel]), f64::from(stats.var[channel]));
                    moments.sum[channel] += count * mean;
                    moments.square[channel] += count * (variance + mean * mean);
                }
                let mut blended = (**normed).clone();
                let (mean, variance) = mix(normed, &stats.mean, &stats.var, blend);
                blended.set_statistics(mean, variance);
                Ok(tensors.with_statistics(&blended)?.forward(conv, frozen)?)
            })?;
        }
        for (site, moments) in network.sites_mut().iter_mut().zip(moments) {
            if let (Site::Normed(site), Some(moments)) = (site, moments) {
                let mean: Vec<f32> = moments.sum.iter().map(|sum| (sum / moments.count) as f32).collect();
                let variance: Vec<f32> = (moments.square.iter().zip(&moments.sum))
                    .map(|(square, sum)| (square / moments.count - (sum / moments.count).powi(2)).max(0.0) as f32)
                    .collect();
                let (mean, variance) = mix(site, &mean, &variance, blend);
                site.set_statistics(mean, variance);
            }
        }
        Ok(())
    }
}

fn mix(site: &NormedSite, mean: &[f32], variance: &[f32], blend: f32) -> (Vec<f32>, Vec<f32>) {
    let mix = |old: &[f32], new: &[f32]| {
        old.iter()
            .zip(new)
            .map(|(old, new)| (1.0 - blend) * old + blend * new)
            .collect::<Vec<f32>>()
    };
    (mix(&site.norm.mean, mean), mix(&site.norm.variance, variance))
}
