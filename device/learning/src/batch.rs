//! Batch statistics: training steps with running averages, and re-estimation on a task's images.

use clr_runtime::{BatchGradient, BatchSite, ChannelStatistics, FoldedNorm, SiteParameters};
use rayon::prelude::*;

use crate::{
    LossFn, Network, NormedSite, PooledStatistics, Site, StepOutput,
    check::check_images,
    classifier::features_gradient,
    error::{LearningError, Result},
    step::{Part, multiply},
};

impl Network {
    /// Computes gradients like [`Network::forward_backward`], with the statistics of the batch (Ioffe and Szegedy 2015)
    /// at every site that has a norm. The network's statistics become running averages: `r ← (1 − momentum) · r +
    /// momentum · batch`, with the unbiased variance.
    ///
    /// # Errors
    /// As [`Network::forward_backward`].
    pub fn forward_backward_on_batch(
        &mut self,
        images: &[&[f32]],
        size: [usize; 2],
        momentum: f32,
        dropout: Option<&[f32]>,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        let (executable, parameters) = self.prepare_step(images, size)?;
        let sites = self.batch_sites(&parameters);
        let mut running = Vec::new();
        let tape = executable.forward_batch(images, &sites, true, &mut |index, statistics| {
            running.push((index, statistics.clone()));
            self.norm(index, statistics)
        });
        let count = self.feature_count();
        let one = |(index, features): (usize, &Vec<f32>)| {
            let mask = dropout.and_then(|mask| mask.get(index * count..(index + 1) * count));
            let mut features = features.clone();
            multiply(&mut features, mask);
            let logits = self.classify(&features);
            let (loss, d_logits) = loss(index, &logits);
            let mut gradient = features_gradient(&self.head_weight.rounded(), &d_logits, count);
            multiply(&mut gradient, mask);
            let part = Part {
                logits,
                loss,
                features,
                d_logits,
                sites: Vec::new(),
            };
            (part, gradient)
        };
        let (parts, d_features): (Vec<Part>, Vec<Vec<f32>>) = tape.features.par_iter().enumerate().map(one).unzip();
        let of_sites = executable.backward_batch(tape, &d_features, &sites);
        let mut gradients = self.head_gradients(&parts)?;
        for (site, gradient) in self.sites.iter().zip(of_sites) {
            let unfolded = match gradient {
                None => continue,
                Some(BatchGradient::Fixed(weights, bias)) => site.unfold(weights, bias),
                Some(BatchGradient::Normalised {
                    multiplier,
                    scale,
                    bias,
                }) => multiplier.into_iter().chain([scale, bias]).collect(),
            };
            let trained = site
                .weights()
                .into_iter()
                .zip(unfolded)
                .filter(|((_, _, weight), _)| weight.trained);
            gradients.extend(trained.map(|(_, gradient)| Some(gradient)));
        }
        for (index, statistics) in running {
            if let Site::Normed(site) = &mut self.sites[index] {
                site.update_running(&statistics, momentum);
            }
        }
        Ok(StepOutput {
            loss: parts.iter().map(|part| part.loss).sum(),
            logits: parts.into_iter().map(|part| part.logits).collect(),
            gradients,
        })
    }

    /// Moves the statistics of every norm of the task towards those of its images: `(1 − blend) · backbone's + blend ·
    /// images'`. This takes one pass over `batches` of preprocessed images, in which each layer reads the output of the
    /// layers before it, which are already blended. The norms' scale and bias stay the same. An image is `[3, H, W]`
    /// with `size` (rows, columns), and a batch contains the values of its images.
    ///
    /// # Errors
    /// The first error of `batches`, and those of [`Network::features`].
    pub fn estimate_statistics<E: From<LearningError>>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<Vec<f32>, E>>,
        size: [usize; 2],
        blend: f32,
    ) -> std::result::Result<(), E> {
        let executable = self.frozen.executable(size)?;
        let length = executable.image().iter().product::<usize>().max(1);
        let sites = self.batch_sites(&self.site_parameters(&executable)?);
        let mut pooled: Vec<Option<PooledStatistics>> = vec![None; self.sites.len()];
        for batch in batches {
            let batch = batch?;
            let images: Vec<&[f32]> = batch.chunks(length).collect();
            check_images(&executable, &images)?;
            executable.forward_batch(&images, &sites, false, &mut |index, statistics| {
                pooled[index].get_or_insert_default().add(statistics);
                let Site::Normed(site) = &self.sites[index] else {
                    unreachable!("only sites with a norm have statistics")
                };
                let mut blended = (**site).clone();
                blended.blend_statistics(statistics, blend);
                (folded(&blended), blended.inverse_deviation().to_vec())
            });
        }
        for (site, pooled) in self.sites.iter_mut().zip(pooled) {
            if let (Site::Normed(site), Some(pooled)) = (site, pooled) {
                site.blend_statistics(&pooled.statistics(), blend);
            }
        }
        Ok(())
    }

    /// Returns the normalised sites: sites of the task whose convolution has a norm in the backbone.
    fn batch_sites(&self, parameters: &[SiteParameters]) -> Vec<BatchSite> {
        let sites = self.sites.iter().zip(parameters).map(|(site, fixed)| match site {
            Site::Normed(site) if site.norm.present => {
                let zeros = vec![0.0; site.norm.mean.len()];
                let multiplier = site.multiplier.as_ref().map(|multiplier| {
                    let values = &multiplier.weight.values;
                    if multiplier.kernel {
                        SiteParameters::kernel(values, &zeros)
                    } else {
                        SiteParameters::scale(values, &zeros)
                    }
                });
                BatchSite::Normalised {
                    multiplier,
                    trained: fixed.is_trained(),
                }
            }
            _ => BatchSite::Fixed(fixed.clone()),
        });
        sites.collect()
    }

    /// Returns the norm of a site with these statistics, and `1 / √(σ² + ε)`.
    fn norm(&self, index: usize, statistics: &ChannelStatistics) -> (FoldedNorm, Vec<f32>) {
        let Site::Normed(site) = &self.sites[index] else {
            unreachable!("only sites with a norm have statistics")
        };
        let mut site = (**site).clone();
        site.set_statistics(statistics.mean.clone(), statistics.variance.clone());
        (folded(&site), site.inverse_deviation().to_vec())
    }
}

fn folded(site: &NormedSite) -> FoldedNorm {
    let scale: Vec<f32> = (site.gamma.values.iter().zip(site.inverse_deviation()))
        .map(|(gamma, inverse)| gamma * inverse)
        .collect();
    let bias = (site.beta.values.iter().zip(&site.norm.mean).zip(&scale))
        .map(|((beta, mean), scale)| beta - mean * scale)
        .collect();
    FoldedNorm { scale, bias }
}
