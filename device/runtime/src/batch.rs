//! Training step of a batch with its own statistics. Every norm depends on all images, so all images advance together,
//! step by step.
//!
//! At a site with batch statistics, `z` is the reprogrammed sum (the CLR kernel without a bias), and `μ` and `σ²` are
//! its mean and variance over the batch and all pixels. The result is `γ · (z − μ) / √(σ² + ε) + β` (Ioffe and Szegedy
//! 2015; ONNX `BatchNormalization` with `training_mode`). Sums over the batch are added in its order, so results are
//! bit-identical for any number of threads.

use clr_kernels::{Bounds, Epilogue, Isa, LANES, accumulate, affine_forward, pack_parameters, unpack_parameters};
use clr_onnx::ValueId;
use rayon::prelude::*;

use crate::{
    Executable, SiteParameters,
    convolution::{Convolution, EpilogueBackward},
    executable::Work,
    inference::{Values, kept, operands, release},
    memory::Memory,
    tape::Record,
    training::backward,
};

/// Parameters of a site in a batch with its own statistics.
#[derive(Clone, Debug)]
pub enum BatchSite {
    /// Fixed statistics: the folded parameters.
    Fixed(SiteParameters),
    /// A norm with the batch's statistics follows the multiplier.
    Normalised {
        /// The CLR kernel or a scale, with zero biases; `None` if the site only has a norm.
        multiplier: Option<SiteParameters>,
        /// Whether a gradient is needed.
        trained: bool,
    },
}

impl BatchSite {
    fn is_trained(&self) -> bool {
        match self {
            Self::Fixed(parameters) => parameters.is_trained(),
            Self::Normalised { trained, .. } => *trained,
        }
    }
}

/// Mean and biased variance of a site's channels over a batch and all pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`.
    pub variance: Vec<f32>,
    /// Values per channel: images times pixels.
    pub count: usize,
}

/// A norm with its statistics folded in: `z · scale + bias`, both `[C]`.
#[derive(Clone, Debug)]
pub struct FoldedNorm {
    /// `γ / √(σ² + ε)`.
    pub scale: Vec<f32>,
    /// `β − μ · scale`.
    pub bias: Vec<f32>,
}

/// Function that returns the norm to apply for a site's index and statistics, and `1 / √(σ² + ε)` `[C]`.
pub type NormOfSite<'a> = &'a mut dyn FnMut(usize, &ChannelStatistics) -> (FoldedNorm, Vec<f32>);

/// The forward pass of a batch.
pub struct BatchTape {
    images: Vec<Record<Vec<f32>>>,
    /// For each step, the norm that was applied.
    norms: Vec<Option<Applied>>,
    /// The features `[F]` of each image.
    pub features: Vec<Vec<f32>>,
}

/// A norm as it was applied at a site.
struct Applied {
    blocks: Vec<f32>,
    statistics: ChannelStatistics,
    inverse_deviation: Vec<f32>,
    /// The reprogrammed sums by image; `None` if the site has no multiplier.
    reprogrammed: Option<Vec<Vec<f32>>>,
}

/// Gradient of the parameters of one site.
#[derive(Clone, Debug)]
pub enum BatchGradient {
    /// Of folded weights and biases.
    Fixed(Vec<f32>, Vec<f32>),
    /// Of a normalised site.
    Normalised {
        /// Of the multiplier's weights.
        multiplier: Option<Vec<f32>>,
        /// Of the norm's scale `γ`, `[C]`.
        scale: Vec<f32>,
        /// Of the norm's bias `β`, `[C]`.
        bias: Vec<f32>,
    },
}

impl Executable {
    /// Computes the forward pass of a batch of preprocessed images `[C, H, W]`. For each normalised site, calls `norm`
    /// with the site's index and statistics; it returns the norm to apply, and `1 / √(σ² + ε)` `[C]`.
    ///
    /// With `keep` false nothing is recorded, and [`Executable::backward_batch`] must not be called afterwards.
    pub fn forward_batch(&self, images: &[&[f32]], sites: &[BatchSite], keep: bool, norm: NormOfSite<'_>) -> BatchTape {
        let memory = &self.buffers;
        let mut tape = BatchTape {
            images: images.par_iter().map(|image| self.start_record(image)).collect(),
            norms: self.steps.iter().map(|_| None).collect(),
            features: Vec::new(),
        };
        let mut kept = vec![false; self.lengths.len()];
        for (index, step) in self.steps.iter().enumerate() {
            match step.convolution().map(|conv| (conv, &sites[conv.site])) {
                Some((conv, BatchSite::Normalised { multiplier, .. })) => {
                    let applied = self.normalise(index, conv, multiplier.as_ref(), &mut tape.images, norm);
                    tape.norms[index] = Some(applied);
                }
                fixed => tape.images.par_iter_mut().for_each(|record| {
                    let mut out = memory.take(self.lengths[step.output.0]);
                    let inputs = operands(step, &record.values);
                    match (&step.work, fixed) {
                        (Work::Convolution(conv), Some((_, BatchSite::Fixed(parameters)))) => {
                            let mut sum = memory.take(out.len());
                            conv.forward_bare([(inputs[0], &mut *sum)]);
                            conv.finish(parameters.epilogue, &parameters.blocks, &sum, &inputs, &mut out);
                            record.sums[index] = Some(sum);
                        }
                        (Work::Operator(operator), _) => operator.forward(&inputs, &mut out),
                        (Work::Convolution(_), _) => unreachable!("normalised sites have their own arm"),
                    }
                    record.values[step.output.0] = Some(out);
                }),
            }
            if keep {
                step.mark_kept(&mut kept);
            } else {
                self.forget_step(index, &mut tape);
            }
            for record in &mut tape.images {
                for &last in step.last_uses.iter().filter(|last| !kept[last.0]) {
                    release(&mut record.values, last, memory);
                }
            }
        }
        let features = tape.images.iter_mut().map(|record| {
            if keep {
                self.copy_features(&record.values)
            } else {
                self.take_features(&mut record.values, memory)
            }
        });
        tape.features = features.collect();
        tape
    }

    fn start_record(&self, image: &[f32]) -> Record<Vec<f32>> {
        let values = self.enter(image, &self.buffers);
        Record::new(values, self.steps.len())
    }

    /// A normalised site for all images.
    fn normalise(
        &self,
        index: usize,
        conv: &Convolution,
        multiplier: Option<&SiteParameters>,
        images: &mut [Record<Vec<f32>>],
        norm: NormOfSite<'_>,
    ) -> Applied {
        let (step, memory) = (&self.steps[index], &self.buffers);
        let length = self.lengths[step.output.0];
        let (reprogrammed, moments): (Vec<_>, Vec<_>) = images
            .par_iter_mut()
            .map(|record| {
                let mut sum = memory.take(length);
                conv.forward_bare([(operands(step, &record.values)[0], &mut *sum)]);
                let reprogrammed = multiplier.map(|multiplier| {
                    let mut reprogrammed = memory.take(length);
                    conv.apply(
                        multiplier.epilogue,
                        &multiplier.blocks,
                        &sum,
                        &mut reprogrammed,
                        Bounds::NONE,
                    );
                    reprogrammed
                });
                let moments = conv.moments(reprogrammed.as_ref().unwrap_or(&sum));
                record.sums[index] = Some(sum);
                (reprogrammed, moments)
            })
            .unzip();
        let statistics = statistics(&moments, conv.pixels() * images.len());
        let (folded, inverse_deviation) = norm(conv.site, &statistics);
        let applied = Applied {
            blocks: pack_parameters(&folded.scale, &folded.bias),
            statistics,
            inverse_deviation,
            reprogrammed: reprogrammed.into_iter().collect(),
        };
        images.par_iter_mut().enumerate().for_each(|(image, record)| {
            let mut out = memory.take(length);
            let (sum, inputs) = (record.sum(index), operands(step, &record.values));
            conv.finish(
                Epilogue::Affine,
                &applied.blocks,
                applied.z(image, sum),
                &inputs,
                &mut out,
            );
            record.values[step.output.0] = Some(out);
        });
        applied
    }

    /// Releases values that only the backward pass of a step reads.
    fn forget_step(&self, index: usize, tape: &mut BatchTape) {
        let applied = tape.norms[index].take();
        let reprogrammed = applied.and_then(|applied| applied.reprogrammed).into_iter().flatten();
        let sums = tape.images.iter_mut().filter_map(|record| record.sums[index].take());
        reprogrammed.chain(sums).for_each(|buffer| self.buffers.give(buffer));
    }

    /// Computes the gradients of the trained sites, by site, from the gradients of the features `[F]` of each image.
    pub fn backward_batch(
        &self,
        mut tape: BatchTape,
        gradients: &[Vec<f32>],
        sites: &[BatchSite],
    ) -> Vec<Option<BatchGradient>> {
        let memory = &self.buffers;
        let tracked = self.tracked_by(|site| sites[site].is_trained());
        let mut flowing: Vec<Values<Vec<f32>>> = gradients.iter().map(|gradient| self.seed(gradient, memory)).collect();
        let mut result: Vec<Option<BatchGradient>> = vec![None; sites.len()];
        for (index, step) in self.steps.iter().enumerate().rev() {
            if !tracked[step.output.0] || flowing.iter().all(|values| values[step.output.0].is_none()) {
                continue;
            }
            match &step.work {
                Work::Convolution(conv) => {
                    let applied = tape.norms[index].take();
                    let gradient = self.conv_backward(
                        index,
                        conv,
                        &sites[conv.site],
                        applied,
                        &tape.images,
                        &mut flowing,
                        &tracked,
                    );
                    result[conv.site] = gradient;
                }
                Work::Operator(operator) => {
                    flowing.par_iter_mut().zip(&tape.images).for_each(|(values, record)| {
                        let Some(mut dy) = values[step.output.0].take() else {
                            return;
                        };
                        let mut dx = self.wanted(step, &tracked, memory);
                        backward(step, &**operator, &record.values, &mut dy, &mut dx);
                        self.distribute(step, dx, values, memory);
                        memory.give(dy);
                    });
                }
            }
        }
        let rest = tape
            .images
            .into_iter()
            .flat_map(|record| record.values.into_iter().chain(record.sums));
        let rest = rest.chain(flowing.into_iter().flatten()).flatten();
        rest.for_each(|buffer| memory.give(buffer));
        result
    }

    /// Computes the backward pass of a convolution for all images.
    fn conv_backward(
        &self,
        index: usize,
        conv: &Convolution,
        site: &BatchSite,
        applied: Option<Applied>,
        images: &[Record<Vec<f32>>],
        flowing: &mut [Values<Vec<f32>>],
        tracked: &[bool],
    ) -> Option<BatchGradient> {
        let (step, memory, isa) = (&self.steps[index], &self.buffers, self.isa);
        let (input, shortcut) = (step.inputs[0], step.inputs.get(1).copied());
        let channels = conv.frozen.channels;
        let epilogue = match (site, &applied) {
            (BatchSite::Fixed(parameters), _) => (parameters.epilogue, &parameters.blocks[..]),
            (_, Some(norm)) => (Epilogue::Affine, &norm.blocks[..]),
            _ => unreachable!("a normalised site has a norm"),
        };
        let length = epilogue.1.len();
        let z_of = |image: usize| {
            let sum = images[image].sum(index);
            applied.as_ref().map_or(sum, |norm| norm.z(image, sum))
        };
        // From the result's gradient to that of `z`, as if the norm's affine map were fixed, and the gradient of that
        // map.
        let parts: Vec<Vec<f32>> = flowing
            .par_iter_mut()
            .enumerate()
            .map(|(image, values)| {
                let mut sums = vec![0.0; length];
                let Some(dy) = &mut values[step.output.0] else {
                    return sums;
                };
                let kept = |id: ValueId| kept(&images[image].values, id);
                let mut d_shortcut = shortcut
                    .filter(|id| tracked[id.0])
                    .map(|id| memory.take(self.lengths[id.0]));
                conv.backward_epilogue(EpilogueBackward {
                    epilogue,
                    z: z_of(image),
                    shortcut: shortcut.map_or(&[], kept),
                    output: kept(step.output),
                    dy,
                    parameters: Some(&mut sums),
                    d_shortcut: d_shortcut.as_deref_mut(),
                    wanted: true,
                });
                if let (Some(id), Some(d_shortcut)) = (shortcut, d_shortcut) {
                    self.accumulate(&mut values[id.0], d_shortcut, memory);
                }
                sums
            })
            .collect();
        let totals = sum_in_order(isa, &parts, length);
        let (weights, bias) = unpack_parameters(&totals, channels);
        let gradient = match (site, applied.as_ref()) {
            (BatchSite::Normalised { multiplier, .. }, Some(norm)) => {
                let (scale, correction) = norm.gradient(&weights, &bias);
                let multiplied: Vec<Vec<f32>> = flowing
                    .par_iter_mut()
                    .enumerate()
                    .map(|(image, values)| {
                        let Some(dz) = &mut values[step.output.0] else {
                            return Vec::new();
                        };
                        let z = z_of(image);
                        let mut shift = memory.take(z.len());
                        affine_forward(isa, z, &correction, conv.pixels() * LANES, &mut shift, Bounds::NONE);
                        accumulate(isa, dz, &shift);
                        memory.give(shift);
                        let Some(multiplier) = multiplier else {
                            return Vec::new();
                        };
                        let mut sums = vec![0.0; multiplier.blocks.len()];
                        conv.backward_multiplier(multiplier, images[image].sum(index), dz, &mut sums);
                        sums
                    })
                    .collect();
                let multiplier = multiplier.as_ref().map(|multiplier| {
                    let sums = sum_in_order(isa, &multiplied, multiplier.blocks.len());
                    unpack_parameters(&sums, channels).0
                });
                BatchGradient::Normalised {
                    multiplier,
                    scale,
                    bias,
                }
            }
            _ => BatchGradient::Fixed(weights, bias),
        };
        flowing.par_iter_mut().for_each(|values| {
            let Some(dy) = values[step.output.0].take() else { return };
            if tracked[input.0] {
                let mut dx = memory.take(self.lengths[input.0]);
                conv.backward_bare(&mut [(&*dy, &mut *dx)]);
                self.accumulate(&mut values[input.0], dx, memory);
            }
            memory.give(dy);
        });
        let reprogrammed = applied.and_then(|norm| norm.reprogrammed).into_iter().flatten();
        reprogrammed.for_each(|z| memory.give(z));
        site.is_trained().then_some(gradient)
    }
}

impl Record<Vec<f32>> {
    /// The bare convolution's result.
    fn sum(&self, step: usize) -> &[f32] {
        self.sums[step].as_deref().unwrap_or_default()
    }
}

impl Applied {
    /// Returns the norm's operand for an image, where `sum` is the result of the bare convolution.
    fn z<'a>(&'a self, image: usize, sum: &'a [f32]) -> &'a [f32] {
        self.reprogrammed.as_ref().map_or(sum, |all| &all[image])
    }

    /// Computes the gradient of γ from `Σ dy · z` and `Σ dy` `[C]`. Also returns an affine map of `z` (in blocks),
    /// which is added to the gradient of `z` because the statistics depend on `z`.
    fn gradient(&self, products: &[f32], sums: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (scales, _) = unpack_parameters(&self.blocks, sums.len());
        let count = self.statistics.count as f64;
        let mut gradient = Vec::with_capacity(sums.len());
        let (mut slopes, mut offsets) = (Vec::with_capacity(sums.len()), Vec::with_capacity(sums.len()));
        for channel in 0..sums.len() {
            let [mean, inverse, scale] = [
                self.statistics.mean[channel],
                self.inverse_deviation[channel],
                scales[channel],
            ]
            .map(f64::from);
            let (product, sum) = (f64::from(products[channel]), f64::from(sums[channel]));
            let d_gamma = (product - mean * sum) * inverse;
            let slope = -scale * d_gamma * inverse / count;
            gradient.push(d_gamma as f32);
            slopes.push(slope as f32);
            offsets.push((-scale * sum / count - slope * mean) as f32);
        }
        (gradient, pack_parameters(&slopes, &offsets))
    }
}

/// Returns mean and variance from the sums and sums of squares `[C]` of each image.
fn statistics(moments: &[Vec<[f64; 2]>], count: usize) -> ChannelStatistics {
    let channels = moments.first().map_or(0, Vec::len);
    let (mean, variance) = (0..channels)
        .map(|channel| {
            let total = moments.iter().fold([0.0; 2], |[sum, square], image| {
                [sum + image[channel][0], square + image[channel][1]]
            });
            let [mean, square] = total.map(|total| total / count.max(1) as f64);
            (mean as f32, (square - mean * mean).max(0.0) as f32)
        })
        .unzip();
    ChannelStatistics { mean, variance, count }
}

/// Adds the parts in the batch's order, whatever the number of threads.
fn sum_in_order(isa: Isa, parts: &[Vec<f32>], length: usize) -> Vec<f32> {
    let mut total = vec![0.0_f32; length];
    for part in parts {
        accumulate(isa, &mut total, part);
    }
    total
}
