//! Gradients of one step: in the runtime, image by image, where that is possible, else in candle for the whole batch.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, PoisonError},
};

use candle_core::{Tensor, Var, backprop::GradStore};
use clr_onnx::Program;
use clr_runtime::{Executable, ExecutableOptions, Footprint, PrefixActivations, SiteParameters};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Mode, Network, site::Site};
use crate::error::{Result, TrainError};

/// What a step learned.
pub struct Learned {
    /// `[N, K]`.
    pub logits: Vec<Vec<f32>>,
    /// The batch's loss.
    pub loss: f32,
    /// Of every trained parameter.
    pub gradients: GradStore,
}

/// Logits `[n, K]` and loss of some pictures' features `[n, F]`; the range says which pictures of the batch they are. The losses of
/// all pictures add up to the batch's.
pub trait Objective: Fn(&Network, Range<usize>, &Tensor) -> Result<(Tensor, Tensor)> + Sync {}

impl<F: Fn(&Network, Range<usize>, &Tensor) -> Result<(Tensor, Tensor)> + Sync> Objective for F {}

/// One picture's part of a step.
struct Part {
    logits: Vec<f32>,
    loss: f32,
    /// Of the sites, in blocks.
    sites: Vec<f32>,
    head: [Option<Vec<f32>>; 2],
}

/// How the way back gets the values that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// They are kept from the way there.
    Keep,
    /// Kept are those between this many segments of the network (at least 2); the rest is computed again, bit for bit. Less memory,
    /// up to a third more time.
    Recompute(usize),
}

impl Network {
    /// Gradients of `objective` on preprocessed pictures `[N, 3, H, W]`. Only [`Mode::TrainOnBatch`] changes the network: its running
    /// averages.
    pub fn learn(&mut self, x: &Tensor, mode: Mode, objective: &impl Objective) -> Result<Learned> {
        if mode == Mode::Train
            && let Some(executable) = self.executable(x)?
        {
            let parameters = self.site_parameters(true)?;
            if obstacle(&executable, &parameters.blocks).is_none() {
                let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
                let images: Vec<&[f32]> = values.chunks_exact(values.len() / x.dim(0)?.max(1)).collect();
                let first = executable.first_trained(&parameters.blocks);
                let prefix = |index: usize| Cow::Owned(executable.prefix(images[index], &parameters.blocks, first));
                let segments = executable.segments(first, 1);
                return self.learn_in_runtime(&executable, &parameters, images.len(), &prefix, &segments, objective);
            }
        }
        let features = self.training_features(x, mode)?;
        let (logits, loss) = objective(self, 0..x.dim(0)?, &features)?;
        Ok(Learned {
            logits: logits.to_vec2()?,
            loss: loss.to_scalar()?,
            gradients: loss.backward()?,
        })
    }

    /// The activations before the first trained site of one preprocessed image `[3, H, W]` of `size` rows × columns; the features, if
    /// no site is trained. They stay valid until [`Network::train_only`] names other sites or a site that is not trained changes.
    pub fn prefix(&self, image: &[f32], size: [usize; 2]) -> Result<PrefixActivations> {
        let executable = self.executable_for(size)?;
        let parameters = self.site_parameters(true)?.blocks;
        Ok(executable.prefix(image, &parameters, executable.first_trained(&parameters)))
    }

    /// Like [`Network::learn`] with fixed statistics, from the prefix of each image of `size` rows × columns.
    pub fn learn_from(
        &self,
        prefixes: &[&PrefixActivations],
        size: [usize; 2],
        memory: Memory,
        objective: &impl Objective,
    ) -> Result<Learned> {
        let executable = self.executable_for(size)?;
        let parameters = self.site_parameters(true)?;
        if let Some(node) = obstacle(&executable, &parameters.blocks) {
            return Err(no_backward_pass(node));
        }
        let segments = executable.segments(executable.first_trained(&parameters.blocks), memory.segments());
        let prefix = |index: usize| Cow::Borrowed(prefixes[index]);
        self.learn_in_runtime(&executable, &parameters, prefixes.len(), &prefix, &segments, objective)
    }

    /// The features `[F]` after a prefix.
    pub fn features_from(&self, prefix: &PrefixActivations, size: [usize; 2]) -> Result<Vec<f32>> {
        let executable = self.executable_for(size)?;
        Ok(executable.features_from_prefix(prefix, &self.site_parameters(false)?.blocks))
    }

    /// Memory of one thread of [`Network::learn_from`] with the sites that are trained now; nothing is packed or run for it.
    pub fn footprint(&self, size: [usize; 2], memory: Memory) -> Result<Footprint> {
        let executable = self.executable_for(size)?;
        let parameters = self.site_parameters(true)?.blocks;
        let segments = executable.segments(executable.first_trained(&parameters), memory.segments());
        Ok(executable.footprint(&parameters, &segments))
    }

    fn site_parameters(&self, training: bool) -> Result<Parameters> {
        let folded =
            (self.sites.iter().map(|site| site.parameters(training))).collect::<candle_core::Result<Vec<_>>>()?;
        let blocks = blocks(&folded)?;
        Ok(Parameters { folded, blocks })
    }

    fn learn_in_runtime<'a>(
        &self,
        executable: &Executable,
        parameters: &Parameters,
        count: usize,
        prefix: &(impl Fn(usize) -> Cow<'a, PrefixActivations> + Sync),
        segments: &[usize],
        objective: &impl Objective,
    ) -> Result<Learned> {
        let Parameters {
            folded,
            blocks: parameters,
        } = parameters;
        let (places, length) = Executable::places(parameters);
        let device = &self.plan.device;
        let one = |index: usize| -> Result<Part> {
            let tape = executable.forward(&prefix(index), parameters, segments);
            let features = Var::from_vec(tape.features().to_vec(), (1, self.feature_count()), device)?;
            let (logits, loss) = objective(self, index..index + 1, &features)?;
            let gradients = loss.backward()?;
            let flat = |var: &Var| {
                gradients
                    .get(var)
                    .map(|g| g.flatten_all()?.to_vec1::<f32>())
                    .transpose()
            };
            let sites = if let Some(gradient) = flat(&features)? {
                executable.backward(tape, &gradient, parameters, &places, length)
            } else {
                executable.discard(tape);
                executable.zero_gradient(length)
            };
            Ok(Part {
                logits: logits.flatten_all()?.to_vec1()?,
                loss: loss.to_scalar()?,
                sites,
                head: [flat(&self.head_weight.var)?, flat(&self.head_bias.var)?],
            })
        };
        let parts = (0..count).into_par_iter().map(one).collect::<Result<Vec<Part>>>()?;

        // In the batch's order, whatever the number of threads.
        let mut sites = vec![0.0_f32; length];
        sites.par_chunks_mut(1 << 12).enumerate().for_each(|(chunk, sums)| {
            for part in &parts {
                let part = &part.sites[chunk << 12..];
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        });
        let mut terms = Vec::new();
        for ((site, parameters), place) in folded.iter().zip(parameters).zip(places) {
            if parameters.is_trained() {
                let (weights, bias) = parameters.unpack(&sites[place]);
                terms.push(product(&site.0, weights)?);
                terms.push(product(&site.1, bias)?);
            }
        }
        for (index, weight) in [&self.head_weight, &self.head_bias].into_iter().enumerate() {
            let mut sum: Option<Vec<f32>> = None;
            for part in &parts {
                match (&mut sum, &part.head[index]) {
                    (Some(sum), Some(part)) => sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value),
                    (sum, Some(part)) => *sum = Some(part.clone()),
                    (_, None) => {}
                }
            }
            if let Some(sum) = sum {
                terms.push(product(weight.var.as_tensor(), sum)?);
            }
        }
        let loss = parts.iter().map(|part| part.loss).sum();
        let logits = parts.into_iter().map(|part| {
            executable.recycle(part.sites);
            part.logits
        });
        let logits = logits.collect();
        // The gradient of `Σ value · gradient` is `gradient`: candle carries it from folded values to kernels, scales and biases.
        let surrogate = Tensor::stack(&terms, 0)?.sum_all()?;
        Ok(Learned {
            logits,
            loss,
            gradients: surrogate.backward()?,
        })
    }

    /// Features `[N, F]` in inference mode, if the runtime can compute them.
    pub(super) fn features_in_runtime(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(executable) = self.executable(x)? else {
            return Ok(None);
        };
        let parameters = self.site_parameters(false)?.blocks;
        let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
        let n = x.dim(0)?;
        let images: Vec<&[f32]> = values.chunks_exact(values.len() / n.max(1)).collect();
        let features: Vec<Vec<f32>> = images
            .par_iter()
            .map(|image| executable.features(image, &parameters))
            .collect();
        let features = Tensor::from_vec(features.concat(), (n, self.feature_count()), x.device())?;
        Ok(Some(features))
    }

    /// The executable for images of the size of `x`, if there is one.
    fn executable(&self, x: &Tensor) -> Result<Option<Arc<Executable>>> {
        let (n, _, height, width) = x.dims4()?;
        if n == 0 || !self.plan.device.is_cpu() {
            return Ok(None);
        }
        self.compiled([height, width])
    }

    fn executable_for(&self, size: [usize; 2]) -> Result<Arc<Executable>> {
        let executable = if self.plan.device.is_cpu() {
            self.compiled(size)?
        } else {
            None
        };
        executable.ok_or_else(|| TrainError::Node {
            node: "backbone".into(),
            reason: "training from a prefix runs on a CPU, on a backbone whose operators the runtime has".into(),
        })
    }

    fn compiled(&self, size: [usize; 2]) -> Result<Option<Arc<Executable>>> {
        let mut executables = self.plan.executables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = executables.get(&size) {
            return Ok(known.clone());
        }
        let program = Program::lower(&self.plan.frozen, size)?;
        let made = Executable::new(&program, &ExecutableOptions::new(&program))
            .ok()
            .map(Arc::new);
        executables.insert(size, made.clone());
        Ok(made)
    }
}

/// A node without a backward pass that depends on a trained site.
fn obstacle<'a>(executable: &'a Executable, sites: &[SiteParameters]) -> Option<&'a str> {
    let trainable = executable.trainable_sites();
    let mut all = sites.iter().zip(trainable);
    all.any(|(site, trainable)| site.is_trained() && !trainable)
        .then(|| executable.first_obstacle())
        .flatten()
}

fn no_backward_pass(node: &str) -> TrainError {
    TrainError::Node {
        node: node.to_owned(),
        reason: "the runtime has no backward pass for it, and a trained site comes before it".into(),
    }
}

/// Parameters of the sites, as candle's tensors and as the runtime reads them.
struct Parameters {
    folded: Vec<(Tensor, Tensor)>,
    blocks: Vec<SiteParameters>,
}

impl Memory {
    fn segments(self) -> usize {
        match self {
            Self::Keep => 1,
            Self::Recompute(segments) => segments.max(2),
        }
    }
}

fn blocks(folded: &[(Tensor, Tensor)]) -> candle_core::Result<Vec<SiteParameters>> {
    folded
        .iter()
        .map(|(weights, bias)| {
            let trained = weights.track_op() || bias.track_op();
            let (values, bias): (Vec<f32>, Vec<f32>) = (weights.flatten_all()?.to_vec1()?, bias.to_vec1()?);
            let parameters = if weights.rank() == 4 {
                SiteParameters::kernel(&values, &bias)
            } else {
                SiteParameters::scale(&values, &bias)
            };
            Ok(parameters.with_gradient(trained))
        })
        .collect()
}

/// `Σ value · gradient`.
fn product(value: &Tensor, gradient: Vec<f32>) -> candle_core::Result<Tensor> {
    (value * Tensor::from_vec(gradient, value.shape(), value.device())?)?.sum_all()
}

impl Site {
    /// The folded weights, `[C, 1, 3, 3]` or `[C]`, and bias `[C]`, with the statistics in force.
    fn parameters(&self, training: bool) -> candle_core::Result<(Tensor, Tensor)> {
        match self {
            Self::Frozen { scale, bias } => Ok((scale.clone(), bias.clone())),
            Self::Normed(site) => site.folded(training),
            Self::Folded { weights, bias, .. } => Ok((weights.tensor(training), bias.tensor(training))),
        }
    }
}
