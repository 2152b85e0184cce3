//! One step's gradients: through the body picture by picture where that is possible, else in candle for the whole batch.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, PoisonError},
};

use candle_core::{Tensor, Var, backprop::GradStore};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Mode, Network, site::Site};
use crate::{
    body::{Body, Footprint, SiteParameters, Start},
    error::{Result, TrainError},
};

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
            && let Some(body) = self.body(x)?
        {
            let parameters = self.site_parameters(true)?;
            let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
            let images: Vec<&[f32]> = values.chunks_exact(values.len() / x.dim(0)?.max(1)).collect();
            let first = body.first(&parameters.blocks);
            let start = |index: usize| Cow::Owned(body.start(images[index], &parameters.blocks, first));
            let segments = body.segments(first, 1);
            return self.learn_in_body(&body, &parameters, images.len(), &start, &segments, objective);
        }
        let features = self.training_features(x, mode)?;
        let (logits, loss) = objective(self, 0..x.dim(0)?, &features)?;
        Ok(Learned {
            logits: logits.to_vec2()?,
            loss: loss.to_scalar()?,
            gradients: loss.backward()?,
        })
    }

    /// What stands before the first trained site for one preprocessed picture `[3, H, W]` of `size` rows × columns; the features, if no
    /// site is trained. It stays what it is until [`Network::train_only`] names other sites or a site that is not trained changes.
    pub fn start(&self, picture: &[f32], size: [usize; 2]) -> Result<Start> {
        let body = self.body_for(picture.len() / (size[0] * size[1]).max(1), size)?;
        let parameters = self.site_parameters(true)?;
        Ok(body.start(picture, &parameters.blocks, body.first(&parameters.blocks)))
    }

    /// Like [`Network::learn`] with fixed statistics, from what [`Network::start`] gave for each picture of `size` rows × columns.
    pub fn learn_from(
        &self,
        starts: &[&Start],
        size: [usize; 2],
        memory: Memory,
        objective: &impl Objective,
    ) -> Result<Learned> {
        let body = self.body_for(self.plan.input_channels, size)?;
        let parameters = self.site_parameters(true)?;
        let segments = body.segments(body.first(&parameters.blocks), memory.segments());
        let start = |index: usize| Cow::Borrowed(starts[index]);
        self.learn_in_body(&body, &parameters, starts.len(), &start, &segments, objective)
    }

    /// The features `[F]` behind a start.
    pub fn features_from(&self, start: &Start, size: [usize; 2]) -> Result<Vec<f32>> {
        let body = self.body_for(self.plan.input_channels, size)?;
        Ok(body.finish(start, &self.site_parameters(false)?.blocks))
    }

    /// What one thread of [`Network::learn_from`] takes with the sites that are trained now; nothing is packed or run for it.
    pub fn footprint(&self, size: [usize; 2], memory: Memory) -> Result<Footprint> {
        let body = self.body_for(self.plan.input_channels, size)?;
        let parameters = self.site_parameters(true)?.blocks;
        let segments = body.segments(body.first(&parameters), memory.segments());
        Ok(body.footprint(&parameters, &segments))
    }

    fn site_parameters(&self, training: bool) -> Result<Parameters> {
        let folded =
            (self.sites.iter().map(|site| site.parameters(training))).collect::<candle_core::Result<Vec<_>>>()?;
        let blocks = blocks(&folded)?;
        Ok(Parameters { folded, blocks })
    }

    fn learn_in_body<'a>(
        &self,
        body: &Body,
        parameters: &Parameters,
        count: usize,
        start: &(impl Fn(usize) -> Cow<'a, Start> + Sync),
        segments: &[usize],
        objective: &impl Objective,
    ) -> Result<Learned> {
        let Parameters {
            folded,
            blocks: parameters,
        } = parameters;
        let (places, length) = Body::places(parameters);
        let device = &self.plan.device;
        let one = |index: usize| -> Result<Part> {
            let mut tape = body.forward(&start(index), parameters, segments);
            let features = std::mem::take(&mut tape.features);
            let features = Var::from_vec(features, (1, self.feature_count()), device)?;
            let (logits, loss) = objective(self, index..index + 1, &features)?;
            let gradients = loss.backward()?;
            let flat = |var: &Var| {
                gradients
                    .get(var)
                    .map(|g| g.flatten_all()?.to_vec1::<f32>())
                    .transpose()
            };
            let sites = if let Some(gradient) = flat(&features)? {
                body.backward(tape, &gradient, parameters, &places, length)
            } else {
                body.forget(tape);
                body.zeros(length)
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
            if parameters.trained {
                let (weights, bias) = parameters.unblock(&sites[place]);
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
            body.recycle(part.sites);
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

    /// Features `[N, F]` in inference mode, if the body can compute them.
    pub(super) fn features_in_body(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(body) = self.body(x)? else {
            return Ok(None);
        };
        let folded = (self.sites.iter().map(|site| site.parameters(false))).collect::<candle_core::Result<Vec<_>>>()?;
        let parameters = blocks(&folded)?;
        let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
        let n = x.dim(0)?;
        let images: Vec<&[f32]> = values.chunks_exact(values.len() / n.max(1)).collect();
        let features: Vec<Vec<f32>> = images
            .par_iter()
            .map(|image| body.features(image, &parameters))
            .collect();
        let features = Tensor::from_vec(features.concat(), (n, self.feature_count()), x.device())?;
        Ok(Some(features))
    }

    /// The body for pictures of the size of `x`, if there is one.
    fn body(&self, x: &Tensor) -> Result<Option<Arc<Body>>> {
        let (n, channels, height, width) = x.dims4()?;
        if n == 0 || !self.plan.device.is_cpu() {
            return Ok(None);
        }
        Ok(self.compiled(channels, [height, width]))
    }

    fn body_for(&self, channels: usize, size: [usize; 2]) -> Result<Arc<Body>> {
        let body = self
            .plan
            .device
            .is_cpu()
            .then(|| self.compiled(channels, size))
            .flatten();
        body.ok_or_else(|| TrainError::Node {
            node: "the whole graph".to_owned(),
            reason: format!(
                "learning picture by picture does not know one of its operators, for {channels} × {} × {} on this device",
                size[0], size[1]
            ),
        })
    }

    fn compiled(&self, channels: usize, [height, width]: [usize; 2]) -> Option<Arc<Body>> {
        let mut bodies = self.plan.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let body = (bodies.entry([channels, height, width]))
            .or_insert_with(|| Body::compile(&self.plan, channels, [height, width]).map(Arc::new));
        body.clone()
    }
}

/// Sites' parameters as candle's tensors and as the body reads them.
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
        .map(|(weights, bias)| SiteParameters::new(weights, bias))
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
