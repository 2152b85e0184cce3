//! The statistics of norms: running averages, and re-estimation on a task's own pictures.

use candle_core::Tensor;

use super::{
    Network,
    site::{Normed, Site},
};
use crate::{error::Result, ops::BatchStats};

/// PyTorch's running update: `r ← (1 − momentum) · r + momentum · batch`, with the unbiased variance of `count` values.
pub(super) fn update_running(site: &mut Normed, stats: &BatchStats, count: usize, momentum: f32) -> Result<()> {
    let unbiased = count as f32 / (count as f32 - 1.0).max(1.0);
    let blend = |old: &[f32], new: &[f32], factor: f32| -> Vec<f32> {
        old.iter()
            .zip(new)
            .map(|(old, new)| (1.0 - momentum) * old + momentum * factor * new)
            .collect()
    };
    let mean = blend(&site.norm.mean, &stats.mean, 1.0);
    let variance = blend(&site.norm.variance, &stats.var, unbiased);
    site.set_statistics(mean, variance)?;
    Ok(())
}

/// Sums over batches for one site, in f64.
struct Moments {
    count: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl Network {
    /// Moves the statistics of every trained norm towards those of a task's pictures:
    /// `(1 − blend) · backbone's + blend · task's`, in one pass over `batches` of `[N, 3, H, W]`, each layer reading what
    /// the blended layers before it produce. The norm's scale and bias stay.
    pub fn estimate_statistics(&mut self, batches: impl IntoIterator<Item = Result<Tensor>>, blend: f32) -> Result<()> {
        let mut moments: Vec<Option<Moments>> = self.sites.iter().map(|_| None).collect();
        for batch in batches {
            self.run(&batch?, |index, conv| {
                let (frozen, site) = (&self.plan.sites[index], &self.sites[index]);
                let statistics = match site {
                    Site::Normed(_) => site.forward_batch(&conv.detach(), None)?,
                    _ => None,
                };
                let (Some((_, stats)), Site::Normed(normed)) = (statistics, site) else {
                    return Ok(site.forward(conv, frozen.activation, false)?);
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
                let mut blended = normed.clone();
                let (mean, variance) = mix(normed, &stats.mean, &stats.var, blend);
                blended.set_statistics(mean, variance)?;
                Ok(Site::Normed(blended).forward(conv, frozen.activation, false)?)
            })?;
        }
        for (site, moments) in self.sites.iter_mut().zip(moments) {
            if let (Site::Normed(site), Some(moments)) = (site, moments) {
                let mean: Vec<f32> = moments.sum.iter().map(|sum| (sum / moments.count) as f32).collect();
                let variance: Vec<f32> = (moments.square.iter().zip(&moments.sum))
                    .map(|(square, sum)| (square / moments.count - (sum / moments.count).powi(2)).max(0.0) as f32)
                    .collect();
                let (mean, variance) = mix(site, &mean, &variance, blend);
                site.set_statistics(mean, variance)?;
            }
        }
        Ok(())
    }
}

fn mix(site: &Normed, mean: &[f32], variance: &[f32], blend: f32) -> (Vec<f32>, Vec<f32>) {
    let mix = |old: &[f32], new: &[f32]| {
        old.iter()
            .zip(new)
            .map(|(old, new)| (1.0 - blend) * old + blend * new)
            .collect::<Vec<f32>>()
    };
    (mix(&site.norm.mean, mean), mix(&site.norm.variance, variance))
}
