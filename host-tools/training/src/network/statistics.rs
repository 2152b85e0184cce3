//! Re-estimation of norm statistics from a task's images.

use candle_core::Tensor;
use clr_learning::{Network, PooledStatistics, Site};

use super::{CandleBackbone, TaskTensors};
use crate::error::Result;

impl CandleBackbone {
    /// Moves the statistics of every trained norm of `network` towards those of a task's images, to
    /// `(1 − blend) · backbone's + blend · task's`. This takes one pass over `batches` of `[N, 3, H, W]`, in which each
    /// layer reads the output of the layers before it, which are already blended. The norms' scale and bias stay the
    /// same.
    pub fn estimate_statistics(
        &self,
        network: &mut Network,
        batches: impl IntoIterator<Item = Result<Tensor>>,
        blend: f32,
    ) -> Result<()> {
        let task = TaskTensors::new(network, self.device(), false)?;
        let mut pooled: Vec<Option<PooledStatistics>> = vec![None; network.sites().len()];
        for batch in batches {
            self.run(&batch?, |index, frozen, conv| {
                let (tensors, site) = (&task.sites[index], &network.sites()[index]);
                let statistics = tensors.forward_batch(conv, None)?;
                let (Some((_, statistics)), Site::Normed(normed)) = (statistics, site) else {
                    return Ok(tensors.forward(conv, frozen)?);
                };
                pooled[index].get_or_insert_default().add(&statistics);
                let mut blended = (**normed).clone();
                blended.blend_statistics(&statistics, blend);
                Ok(tensors.with_statistics(&blended)?.forward(conv, frozen)?)
            })?;
        }
        for (site, pooled) in network.sites_mut().iter_mut().zip(pooled) {
            if let (Site::Normed(site), Some(pooled)) = (site, pooled) {
                site.blend_statistics(&pooled.statistics(), blend);
            }
        }
        Ok(())
    }
}
