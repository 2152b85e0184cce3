//! Training step of some images: prefix, forward pass and backward pass.

use std::ops::Range;

use clr_kernels::accumulate;
use clr_onnx::ValueId;

use crate::{
    Executable, PrefixActivations, SiteParameters, Tape,
    convolution::EpilogueBackward,
    executable::{Step, Work},
    inference::{Values, kept},
    memory::{Buffer, Memory},
    operators::{Backward, Operator},
    tape::{Record, trim_between},
};

/// The targets of an image's backward pass.
struct Gradients<B> {
    /// By value.
    values: Values<B>,
    /// Of the parameters of all sites, in blocks.
    parameters: B,
}

impl Executable {
    /// Returns the range of each site's parameters in a gradient, and the gradient's length.
    pub fn places(sites: &[SiteParameters]) -> (Vec<Range<usize>>, usize) {
        let mut end = 0;
        let places = sites.iter().map(|site| {
            let start = end;
            end += site.block_len();
            start..end
        });
        (places.collect(), end)
    }

    /// Returns the number of images to pass to [`Executable::forward`] together. It is more than one if the feature
    /// maps are small and the weights large, because reading the weights then takes most of the time. The values of all
    /// images take at most a tenth of the weights' memory.
    pub fn images_together(&self, segments: &[usize]) -> usize {
        const MAX_IMAGES: usize = 4;
        const PART_OF_WEIGHTS: usize = 10;
        let steps = &self.steps[segments.first().copied().unwrap_or(self.steps.len())..];
        let (mut weights, mut values) = (0, 0);
        for (step, conv) in steps.iter().filter_map(|step| Some((step, step.convolution()?))) {
            weights += conv.weight_bytes();
            values += size_of::<f32>() * self.lengths[step.output.0];
        }
        // Segments are chosen to save memory.
        let most = if segments.len() > 1 { 1 } else { MAX_IMAGES };
        (weights / (PART_OF_WEIGHTS * values).max(1)).clamp(1, most)
    }

    /// Runs the forward pass of some images from their prefixes, in the given segments ([`Executable::segments`]). The
    /// results do not depend on which images run together.
    pub fn forward(&self, prefixes: &[&PrefixActivations], sites: &[SiteParameters], segments: &[usize]) -> Tape {
        let prefixes = prefixes.iter().map(|prefix| self.load_prefix(prefix)).collect();
        let records = self.record(prefixes, sites, segments, &self.buffers);
        let features = records.iter().map(|record| self.copy_features(&record.values));
        Tape {
            features: features.collect(),
            segments: segments.to_vec(),
            records,
        }
    }

    /// Computes the gradients of the trained sites from each image's gradient of the features `[F]`. Each result has
    /// `length` values in blocks; each site's gradient is at its range in `places` ([`Executable::places`]). Nothing
    /// before the first trained site is computed.
    pub fn backward(
        &self,
        tape: Tape,
        gradients: &[Vec<f32>],
        sites: &[SiteParameters],
        places: &[Range<usize>],
        length: usize,
    ) -> Vec<Vec<f32>> {
        let Tape { records, segments, .. } = tape;
        self.run_backward(records, gradients, sites, &segments, places, length, &self.buffers)
    }

    pub(crate) fn run_backward<M: Memory>(
        &self,
        mut records: Vec<Record<M::Buffer>>,
        gradients: &[Vec<f32>],
        sites: &[SiteParameters],
        segments: &[usize],
        places: &[Range<usize>],
        length: usize,
        memory: &M,
    ) -> Vec<M::Buffer> {
        let between = self.between(segments);
        let tracked = self.tracked(sites);
        let seed = |gradient: &Vec<f32>| Gradients {
            values: self.seed(gradient, memory),
            parameters: zeros(length, memory),
        };
        let mut gradients: Vec<_> = gradients.iter().map(seed).collect();
        for segment in (0..segments.len()).rev() {
            let steps = self.segment(segments, segment);
            if segment + 1 != segments.len() {
                self.record_segment(steps.clone(), &mut records, sites, &between, true, memory);
            }
            for index in steps.clone().rev() {
                if tracked[self.steps[index].output.0] {
                    self.step_backward(index, &records, sites, places, &tracked, &mut gradients, memory);
                }
            }
            // Earlier steps do not read the values that these steps computed.
            for record in &mut records {
                for index in steps.clone() {
                    let value = record.values[self.steps[index].output.0].take();
                    let buffers = [value, record.sums[index].take()];
                    buffers.into_iter().flatten().for_each(|buffer| memory.give(buffer));
                }
            }
            trim_between(segments, memory);
        }
        let rest = records.into_iter().flat_map(|record| record.values).flatten();
        rest.for_each(|buffer| memory.give(buffer));
        let finished = gradients.into_iter().map(|gradients| {
            gradients
                .values
                .into_iter()
                .flatten()
                .for_each(|buffer| memory.give(buffer));
            gradients.parameters
        });
        finished.collect()
    }

    /// Runs the backward pass of one step for all images.
    fn step_backward<M: Memory>(
        &self,
        index: usize,
        records: &[Record<M::Buffer>],
        sites: &[SiteParameters],
        places: &[Range<usize>],
        tracked: &[bool],
        gradients: &mut [Gradients<M::Buffer>],
        memory: &M,
    ) {
        let step = &self.steps[index];
        // At each step, either all images have a gradient or none has.
        let dys = gradients
            .iter_mut()
            .filter_map(|gradients| gradients.values[step.output.0].take());
        let mut dys: Vec<M::Buffer> = dys.collect();
        let mut dxs: Vec<_> = dys.iter().map(|_| self.wanted(step, tracked, memory)).collect();
        if M::COMPUTES {
            let images = records.iter().zip(&mut *gradients).zip(dys.iter_mut().zip(&mut dxs));
            match &step.work {
                Work::Convolution(conv) => {
                    for ((record, gradients), (dy, dx)) in images {
                        let (parameters, place) = (&sites[conv.site], places[conv.site].clone());
                        let wanted = dx.first().is_some_and(Option::is_some);
                        let d_shortcut = dx.get_mut(1).and_then(Option::as_mut).map(Buffer::values_mut);
                        conv.backward_epilogue(EpilogueBackward {
                            epilogue: (parameters.epilogue, &parameters.blocks),
                            z: record.sums[index].as_ref().map_or(&[], Buffer::values),
                            shortcut: step
                                .inputs
                                .get(1)
                                .map_or(&[], |shortcut| kept(&record.values, *shortcut)),
                            output: kept(&record.values, step.output),
                            dy: dy.values_mut(),
                            parameters: (parameters.is_trained())
                                .then(|| &mut gradients.parameters.values_mut()[place]),
                            d_shortcut,
                            wanted,
                        });
                    }
                    let images = dys.iter().zip(&mut dxs);
                    let mut images: Vec<_> = images
                        .filter_map(|(dy, dx)| Some((dy.values(), dx.first_mut()?.as_mut()?.values_mut())))
                        .collect();
                    if !images.is_empty() {
                        conv.backward_bare(&mut images);
                    }
                }
                Work::Operator(operator) => {
                    for ((record, _), (dy, dx)) in images {
                        backward(step, &**operator, &record.values, dy, dx);
                    }
                }
            }
        }
        for (gradients, dx) in gradients.iter_mut().zip(dxs) {
            self.distribute(step, dx, &mut gradients.values, memory);
        }
        for dy in dys {
            memory.give(dy);
        }
    }

    /// Returns the gradients of all values, with only that of the features `[F]` set.
    pub(crate) fn seed<M: Memory>(&self, gradient: &[f32], memory: &M) -> Values<M::Buffer> {
        let mut first = memory.take(self.lengths[self.features.0]);
        if M::COMPUTES {
            let (values, padding) = first.values_mut().split_at_mut(gradient.len());
            values.copy_from_slice(gradient);
            padding.fill(0.0);
        }
        let mut values = self.no_values();
        values[self.features.0] = Some(first);
        values
    }

    /// Returns buffers for the gradients of those inputs of a step that depend on a trained site.
    pub(crate) fn wanted<M: Memory>(&self, step: &Step, tracked: &[bool], memory: &M) -> Vec<Option<M::Buffer>> {
        let wanted = |input: &ValueId| tracked[input.0].then(|| memory.take(self.lengths[input.0]));
        step.inputs.iter().map(wanted).collect()
    }

    /// Adds the gradients of a step's inputs to those of the values.
    pub(crate) fn distribute<M: Memory>(
        &self,
        step: &Step,
        dx: Vec<Option<M::Buffer>>,
        values: &mut Values<M::Buffer>,
        memory: &M,
    ) {
        for (input, dx) in step.inputs.iter().zip(dx) {
            if let Some(dx) = dx {
                self.accumulate(&mut values[input.0], dx, memory);
            }
        }
    }

    /// Adds to the gradient of a value.
    pub(crate) fn accumulate<M: Memory>(&self, sum: &mut Option<M::Buffer>, gradient: M::Buffer, memory: &M) {
        match sum {
            Some(sum) => {
                if M::COMPUTES {
                    accumulate(self.isa, sum.values_mut(), gradient.values());
                }
                memory.give(gradient);
            }
            empty => *empty = Some(gradient),
        }
    }

    /// Returns for each value whether it depends on a trained site.
    pub(crate) fn tracked(&self, sites: &[SiteParameters]) -> Vec<bool> {
        self.tracked_by(|site| sites[site].is_trained())
    }

    /// Does the same, with the trained sites given by index.
    pub(crate) fn tracked_by(&self, trained: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut tracked = vec![false; self.lengths.len()];
        for step in &self.steps {
            let own = step.convolution().is_some_and(|conv| trained(conv.site));
            tracked[step.output.0] = own || step.inputs.iter().any(|input| tracked[input.0]);
        }
        tracked
    }

    /// Releases the buffers of a forward pass that is not followed by a backward pass.
    pub fn discard(&self, tape: Tape) {
        let records = tape.records.into_iter();
        records
            .flat_map(|Record { values, sums }| values.into_iter().chain(sums))
            .flatten()
            .for_each(|buffer| self.buffers.give(buffer));
    }

    /// Returns the gradient of [`Executable::backward`] for a loss that does not depend on any parameter.
    pub fn zero_gradient(&self, length: usize) -> Vec<f32> {
        zeros(length, &self.buffers)
    }

    /// Takes back a gradient of [`Executable::backward`], so that the next image can use its memory.
    pub fn recycle(&self, gradient: Vec<f32>) {
        self.buffers.give(gradient);
    }
}

/// Runs the backward pass of an operator, with the values that its forward pass kept.
pub(crate) fn backward<B: Buffer>(
    step: &Step,
    operator: &dyn Operator,
    values: &Values<B>,
    dy: &mut B,
    dx: &mut [Option<B>],
) {
    let inputs: Vec<&[f32]> = if step.reads.inputs {
        step.inputs.iter().map(|input| kept(values, *input)).collect()
    } else {
        Vec::new()
    };
    let mut targets: Vec<Option<&mut [f32]>> = dx.iter_mut().map(|dx| dx.as_mut().map(Buffer::values_mut)).collect();
    operator.backward(Backward {
        inputs: &inputs,
        output: kept(values, step.output),
        dy: dy.values_mut(),
        dx: &mut targets,
    });
}

fn zeros<M: Memory>(length: usize, memory: &M) -> M::Buffer {
    let mut zeros = memory.take(length);
    zeros.values_mut().fill(0.0);
    zeros
}
