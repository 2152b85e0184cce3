//! Training step: forward and backward pass of a batch, in parallel over small groups of images.
//!
//! The gradients of the images are added in the batch's order, so results are bit-identical for any number of threads.

use std::{borrow::Cow, ops::Range, sync::Arc};

use clr_runtime::{Executable, Footprint, PrefixActivations, SiteParameters};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    Network,
    check::{check_backward, check_images},
    classifier::{add_scaled, features_gradient},
    error::{LearningError, Result},
};

/// Gradients in the order of [`Network::parameters`]; `None` for a parameter that has no effect on the loss.
pub type Gradients = Vec<Option<Vec<f32>>>;

/// Loss of an image and its gradient with respect to the logits `[K]`. The arguments are the image's index in the batch
/// and its logits. The loss of the batch is the sum over its images.
pub trait LossFn: Fn(usize, &[f32]) -> (f32, Vec<f32>) + Sync {}

impl<F: Fn(usize, &[f32]) -> (f32, Vec<f32>) + Sync> LossFn for F {}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutput {
    /// `[N, K]`.
    pub logits: Vec<Vec<f32>>,
    /// The batch's loss.
    pub loss: f32,
    /// Of every trained parameter.
    pub gradients: Gradients,
}

/// Activation checkpointing: which values of the forward pass are stored for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpointing {
    /// Keeps all values.
    #[serde(rename = "keep")]
    Off,
    /// Divides the network into this number of segments (at least 2), stores only the values between them, and
    /// recomputes the others, bit-identically. This needs less memory and up to a third more time.
    #[serde(rename = "recompute")]
    Segments(usize),
}

impl Checkpointing {
    fn segments(self) -> usize {
        match self {
            Self::Off => 1,
            Self::Segments(segments) => segments.max(2),
        }
    }
}

/// Results of one image in a step.
pub(crate) struct Part {
    pub(crate) logits: Vec<f32>,
    pub(crate) loss: f32,
    /// The features read by the head, after dropout.
    pub(crate) features: Vec<f32>,
    pub(crate) d_logits: Vec<f32>,
    /// Gradient of the sites, in blocks of 16 channels; empty if no site is trained.
    pub(crate) sites: Vec<f32>,
}

impl Network {
    /// Computes the gradients of `loss` on preprocessed images `[3, H, W]` of `size` (rows, columns). `dropout`
    /// contains factors on the features, `[N, F]`.
    ///
    /// # Errors
    /// [`LearningError::NoBackwardPass`], and those of [`Network::features`].
    pub fn forward_backward(
        &self,
        images: &[&[f32]],
        size: [usize; 2],
        dropout: Option<&[f32]>,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        let (executable, parameters) = self.prepare_step(images, size)?;
        let first = executable.first_trained(&parameters);
        let segments = executable.segments(first, 1);
        let prefix = |index: usize| Cow::Owned(executable.prefix(images[index], &parameters, first));
        self.step(
            &executable,
            &parameters,
            images.len(),
            &prefix,
            &segments,
            dropout,
            loss,
        )
    }

    /// Does the same as [`Network::forward_backward`], starting from the prefix activations of each image.
    ///
    /// # Errors
    /// As [`Network::forward_backward`].
    pub fn forward_backward_from_prefix(
        &self,
        prefixes: &[&PrefixActivations],
        size: [usize; 2],
        checkpointing: Checkpointing,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        let executable = self.frozen.executable(size)?;
        let parameters = self.site_parameters(&executable)?;
        check_backward(&executable, &parameters)?;
        let segments = executable.segments(executable.first_trained(&parameters), checkpointing.segments());
        let prefix = |index: usize| Cow::Borrowed(prefixes[index]);
        self.step(&executable, &parameters, prefixes.len(), &prefix, &segments, None, loss)
    }

    /// Returns the activations of a preprocessed image before the first trained site; the features if no site is
    /// trained. They stay valid until [`Network::set_trainable`] selects other sites, or a site that is not trained
    /// changes.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn prefix(&self, image: &[f32], size: [usize; 2]) -> Result<PrefixActivations> {
        let executable = self.frozen.executable(size)?;
        check_images(&executable, &[image])?;
        let parameters = self.site_parameters(&executable)?;
        Ok(executable.prefix(image, &parameters, executable.first_trained(&parameters)))
    }

    /// Returns the features `[F]` computed from prefix activations.
    ///
    /// # Errors
    /// As [`Network::features`].
    pub fn features_from_prefix(&self, prefix: &PrefixActivations, size: [usize; 2]) -> Result<Vec<f32>> {
        let executable = self.frozen.executable(size)?;
        Ok(executable.features_from_prefix(prefix, &self.site_parameters(&executable)?))
    }

    /// Estimates the memory of one thread of [`Network::forward_backward_from_prefix`] that trains `images` of a batch
    /// with the current trainable sites, without packing or computing anything.
    ///
    /// # Errors
    /// If the runtime cannot execute the backbone at this size.
    pub fn footprint(&self, size: [usize; 2], checkpointing: Checkpointing, images: usize) -> Result<Footprint> {
        let executable = self.frozen.executable(size)?;
        let parameters = self.site_parameters(&executable)?;
        let segments = executable.segments(executable.first_trained(&parameters), checkpointing.segments());
        let together = executable.images_together(&segments).min(images.max(1));
        Ok(executable.footprint(&parameters, &segments, together))
    }

    /// Returns the runtime's executable for images of `size` (rows, columns).
    ///
    /// # Errors
    /// If the runtime cannot execute the backbone at this size.
    pub fn executable(&self, size: [usize; 2]) -> Result<Arc<Executable>> {
        self.frozen.executable(size)
    }

    /// Checks that no trained site comes before a node without a backward pass.
    ///
    /// # Errors
    /// [`LearningError::NoBackwardPass`], and those of [`Network::executable`].
    pub fn check_trainable(&self, size: [usize; 2]) -> Result<()> {
        let executable = self.frozen.executable(size)?;
        check_backward(&executable, &self.site_parameters(&executable)?)
    }

    /// Returns one entry per site, which also states whether training needs its gradient.
    pub(crate) fn site_parameters(&self, executable: &Executable) -> Result<Vec<SiteParameters>> {
        let mut all = executable.frozen_parameters();
        for ((index, parameters), site) in all.iter_mut().enumerate().zip(&self.sites) {
            let Some(folded) = site.folded() else { continue };
            let packed = if folded.kernel {
                SiteParameters::kernel(&folded.weights, &folded.bias)
            } else {
                SiteParameters::scale(&folded.weights, &folded.bias)
            };
            *parameters = executable.scaled(index, &packed)?.with_gradient(folded.trained);
        }
        Ok(all)
    }

    /// Checks the images, and returns the executable and the sites' parameters for a step.
    pub(crate) fn prepare_step(
        &self,
        images: &[&[f32]],
        size: [usize; 2],
    ) -> Result<(Arc<Executable>, Vec<SiteParameters>)> {
        let executable = self.frozen.executable(size)?;
        check_images(&executable, images)?;
        let parameters = self.site_parameters(&executable)?;
        check_backward(&executable, &parameters)?;
        Ok((executable, parameters))
    }

    fn step<'a>(
        &self,
        executable: &Executable,
        parameters: &[SiteParameters],
        count: usize,
        prefix: &(impl Fn(usize) -> Cow<'a, PrefixActivations> + Sync),
        segments: &[usize],
        dropout: Option<&[f32]>,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        let feature_count = self.feature_count();
        if let Some(mask) = dropout
            && mask.len() != count * feature_count
        {
            return Err(LearningError::mismatch(
                "factors of the dropout",
                count * feature_count,
                mask.len(),
            ));
        }
        let (places, length) = Executable::places(parameters);
        let head = self.head_weight.rounded();
        let trains_sites = parameters.iter().any(SiteParameters::is_trained);
        let group = |images: Range<usize>| -> Vec<Part> {
            let prefixes: Vec<_> = images.clone().map(prefix).collect();
            let prefixes: Vec<&PrefixActivations> = prefixes.iter().map(|prefix| &**prefix).collect();
            let tape = executable.forward(&prefixes, parameters, segments);
            let mask = |index: usize| dropout.map(|mask| &mask[index * feature_count..(index + 1) * feature_count]);
            let parts = images.clone().zip(tape.features()).map(|(index, features)| {
                let mut features = features.clone();
                multiply(&mut features, mask(index));
                let logits = self.classify(&features);
                let (loss, d_logits) = loss(index, &logits);
                Part {
                    logits,
                    loss,
                    features,
                    d_logits,
                    sites: Vec::new(),
                }
            });
            let mut parts: Vec<Part> = parts.collect();
            if trains_sites {
                let gradients = images.zip(&parts).map(|(index, part)| {
                    let mut gradient = features_gradient(&head, &part.d_logits, feature_count);
                    multiply(&mut gradient, mask(index));
                    gradient
                });
                let gradients: Vec<Vec<f32>> = gradients.collect();
                let sites = executable.backward(tape, &gradients, parameters, &places, length);
                parts.iter_mut().zip(sites).for_each(|(part, sites)| part.sites = sites);
            } else {
                executable.discard(tape);
            }
            parts
        };
        // A group is never larger than a thread's share of the images, so that no thread waits for a large group.
        let per_thread = count.div_ceil(rayon::current_num_threads()).max(1);
        let together = executable.images_together(segments).min(per_thread);
        let groups = (0..count.div_ceil(together)).into_par_iter();
        let groups = groups.map(|index| group(index * together..((index + 1) * together).min(count)));
        let parts: Vec<Part> = groups.collect::<Vec<_>>().into_iter().flatten().collect();

        let mut gradients = self.head_gradients(&parts)?;
        let sums = if trains_sites {
            sum_of_sites(&parts, length)
        } else {
            Vec::new()
        };
        for ((site, parameters), place) in self.sites.iter().zip(parameters).zip(places) {
            if !parameters.is_trained() {
                continue;
            }
            let (d_weights, d_bias) = parameters.unpack(&sums[place]);
            let unfolded = site.weights().into_iter().zip(site.unfold(d_weights, d_bias));
            gradients.extend(
                unfolded
                    .filter(|((_, _, weight), _)| weight.trained)
                    .map(|(_, gradient)| Some(gradient)),
            );
        }
        let loss = parts.iter().map(|part| part.loss).sum();
        let logits = parts.into_iter().map(|part| {
            if trains_sites {
                executable.recycle(part.sites);
            }
            part.logits
        });
        Ok(StepOutput {
            logits: logits.collect(),
            loss,
            gradients,
        })
    }

    /// Returns the gradients of the head's weight `[K, F]` and bias `[K]`, if they are trained.
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if the gradient of the loss has another length than the logits.
    pub(crate) fn head_gradients(&self, parts: &[Part]) -> Result<Gradients> {
        let (classes, features) = (self.classes(), self.feature_count());
        if let Some(part) = parts.iter().find(|part| part.d_logits.len() != classes) {
            return Err(LearningError::mismatch(
                "the loss's gradient",
                classes,
                part.d_logits.len(),
            ));
        }
        let mut gradients = Vec::with_capacity(2);
        if self.head_weight.trained {
            let mut weight = vec![0.0_f32; classes * features];
            weight
                .par_chunks_exact_mut(features.max(1))
                .enumerate()
                .for_each(|(class, row)| {
                    for part in parts {
                        add_scaled(row, part.d_logits[class], &part.features);
                    }
                });
            gradients.push(Some(weight));
        }
        if self.head_bias.trained {
            let mut bias = vec![0.0_f32; classes];
            for part in parts {
                add_scaled(&mut bias, 1.0, &part.d_logits);
            }
            gradients.push(Some(bias));
        }
        Ok(gradients)
    }
}

pub(crate) fn multiply(values: &mut [f32], factors: Option<&[f32]>) {
    let Some(factors) = factors else { return };
    values
        .iter_mut()
        .zip(factors)
        .for_each(|(value, factor)| *value *= factor);
}

fn sum_of_sites(parts: &[Part], length: usize) -> Vec<f32> {
    const CHUNK: usize = 1 << 12;
    let mut sums = vec![0.0_f32; length];
    sums.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, sums)| {
        for part in parts {
            add_scaled(sums, 1.0, &part.sites[chunk * CHUNK..]);
        }
    });
    sums
}
