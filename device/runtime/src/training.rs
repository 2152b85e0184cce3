//! Training step of one image: prefix, forward pass, backward pass.

use std::ops::Range;

use clr_kernels::accumulate;
use clr_onnx::ValueId;

use crate::{
    Executable, SiteParameters, Tape,
    convolution::EpilogueBackward,
    executable::{Step, Work},
    inference::{Values, kept, value},
    memory::{Buffer, Memory},
    operators::{Backward, Operator},
    tape::{Record, trim_between},
};

/// An image's activations before the first trained site, or its features if no site is trained. They do not change while the sites
/// after them learn, so that they may be computed once and kept.
#[derive(Clone, Debug)]
pub struct PrefixActivations {
    values: Vec<(ValueId, Vec<f32>)>,
    /// The step to continue with.
    step: usize,
}

impl PrefixActivations {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        let values = self.values.iter();
        values.map(|(_, values)| size_of::<f32>() * values.capacity()).sum()
    }
}

/// The targets of a backward pass.
pub(crate) struct Gradients<'a, B> {
    /// Values that depend on a trained site.
    tracked: Vec<bool>,
    /// By value.
    values: Values<B>,
    /// Of the parameters of all sites, in blocks.
    parameters: B,
    /// The place of each site in `parameters`.
    places: &'a [Range<usize>],
}

impl Executable {
    /// The first step that computes a trained site; the number of steps if no site is trained.
    pub fn first_trained(&self, sites: &[SiteParameters]) -> usize {
        let trained = |site: usize| sites[site].is_trained();
        let first = self
            .steps
            .iter()
            .position(|step| step.convolution().is_some_and(|conv| trained(conv.site)));
        first.unwrap_or(self.steps.len())
    }

    /// The place of each site's parameters in a gradient, and the gradient's length.
    pub fn places(sites: &[SiteParameters]) -> (Vec<Range<usize>>, usize) {
        let mut end = 0;
        let places = sites.iter().map(|site| {
            let start = end;
            end += site.block_len();
            start..end
        });
        (places.collect(), end)
    }

    /// The activations before step `first` of a preprocessed image `[C, H, W]`.
    pub fn prefix(&self, image: &[f32], sites: &[SiteParameters], first: usize) -> PrefixActivations {
        let memory = &self.buffers;
        let mut values = self.run_prefix(image, sites, first, memory);
        // Copies of the exact length: buffers return to where they came from.
        let live = self.live(first).into_iter();
        let values_before = live.map(|id| (id, value(&values, id).to_vec())).collect();
        values
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|buffer| memory.give(buffer));
        PrefixActivations {
            values: values_before,
            step: first,
        }
    }

    pub(crate) fn run_prefix<M: Memory>(
        &self,
        image: &[f32],
        sites: &[SiteParameters],
        first: usize,
        memory: &M,
    ) -> Values<M::Buffer> {
        let mut values = self.no_values();
        values[ValueId::IMAGE.0] = Some(self.pixels(image, memory));
        self.infer(0..first, &mut values, sites, memory);
        values
    }

    fn load_prefix(&self, prefix: &PrefixActivations) -> Values<Vec<f32>> {
        let mut values = self.no_values();
        for (id, stored) in &prefix.values {
            let mut copy = self.buffers.take(stored.len());
            copy.copy_from_slice(stored);
            values[id.0] = Some(copy);
        }
        values
    }

    /// The features `[F]` after `prefix`, bit-identical to [`Executable::features`] of its image.
    pub fn features_from_prefix(&self, prefix: &PrefixActivations, sites: &[SiteParameters]) -> Vec<f32> {
        let mut values = self.load_prefix(prefix);
        self.infer(prefix.step..self.steps.len(), &mut values, sites, &self.buffers);
        self.take_features(&mut values, &self.buffers)
    }

    /// Forward pass from `prefix` in the given segments ([`Executable::segments`]).
    pub fn forward(&self, prefix: &PrefixActivations, sites: &[SiteParameters], segments: &[usize]) -> Tape {
        let record = self.record(self.load_prefix(prefix), sites, segments, &self.buffers);
        let features = self.copy_features(&record.values);
        Tape { record, features }
    }

    /// From the gradient of the features `[F]` to those of the trained sites, in blocks, at `places` of the result of `length` values
    /// ([`Executable::places`]). Nothing before the first trained site is computed.
    pub fn backward(
        &self,
        tape: Tape,
        gradient: &[f32],
        sites: &[SiteParameters],
        places: &[Range<usize>],
        length: usize,
    ) -> Vec<f32> {
        self.run_backward(tape.record, gradient, sites, places, length, &self.buffers)
    }

    pub(crate) fn run_backward<M: Memory>(
        &self,
        mut record: Record<M::Buffer>,
        gradient: &[f32],
        sites: &[SiteParameters],
        places: &[Range<usize>],
        length: usize,
        memory: &M,
    ) -> M::Buffer {
        let between = self.between(&record.segments);
        let mut gradients = Gradients {
            tracked: self.tracked(sites),
            values: self.seed(gradient, memory),
            parameters: zeros(length, memory),
            places,
        };
        for segment in (0..record.segments.len()).rev() {
            let steps = record.segment(segment);
            if segment + 1 != record.segments.len() {
                self.record_segment(steps.clone(), &mut record, sites, &between, true, memory);
            }
            for index in steps.clone().rev() {
                self.step_backward(index, &record, sites, &mut gradients, memory);
            }
            // The steps before read nothing that these computed.
            for index in steps {
                let value = record.values[self.steps[index].output.0].take();
                let buffers = [value, record.sums[index].take()];
                buffers.into_iter().flatten().for_each(|buffer| memory.give(buffer));
            }
            trim_between(&record.segments, memory);
        }
        let rest = record.values.into_iter().chain(gradients.values).flatten();
        rest.for_each(|buffer| memory.give(buffer));
        gradients.parameters
    }

    fn step_backward<M: Memory>(
        &self,
        index: usize,
        record: &Record<M::Buffer>,
        sites: &[SiteParameters],
        gradients: &mut Gradients<'_, M::Buffer>,
        memory: &M,
    ) {
        let step = &self.steps[index];
        let Some(mut dy) = gradients.values[step.output.0].take() else {
            return;
        };
        if gradients.tracked[step.output.0] {
            let mut dx = self.wanted(step, &gradients.tracked, memory);
            if M::COMPUTES {
                match &step.work {
                    Work::Convolution(conv) => {
                        let (parameters, values) = (&sites[conv.site], &record.values);
                        let place = gradients.places[conv.site].clone();
                        let mut targets = dx.iter_mut().map(|dx| dx.as_mut().map(Buffer::values_mut));
                        let (dx, d_shortcut) = (targets.next().flatten(), targets.next().flatten());
                        conv.backward_epilogue(EpilogueBackward {
                            epilogue: (parameters.epilogue, &parameters.blocks),
                            z: record.sums[index].as_ref().map_or(&[], Buffer::values),
                            shortcut: step.inputs.get(1).map_or(&[], |shortcut| kept(values, *shortcut)),
                            output: kept(values, step.output),
                            dy: dy.values_mut(),
                            parameters: (parameters.is_trained())
                                .then(|| &mut gradients.parameters.values_mut()[place]),
                            d_shortcut,
                            wanted: dx.is_some(),
                        });
                        if let Some(dx) = dx {
                            conv.backward_bare(dy.values(), dx);
                        }
                    }
                    Work::Operator(operator) => backward(step, &**operator, &record.values, &mut dy, &mut dx),
                }
            }
            self.distribute(step, dx, &mut gradients.values, memory);
        }
        memory.give(dy);
    }

    /// The gradients of all values where that of the features `[F]` is given.
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

    /// Buffers for the gradients of a step's inputs that depend on a trained site.
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

    /// Whether each value depends on a trained site.
    pub(crate) fn tracked(&self, sites: &[SiteParameters]) -> Vec<bool> {
        self.tracked_by(|site| sites[site].is_trained())
    }

    /// The same, with the trained sites given by index.
    pub(crate) fn tracked_by(&self, trained: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut tracked = vec![false; self.lengths.len()];
        for step in &self.steps {
            let own = step.convolution().is_some_and(|conv| trained(conv.site));
            tracked[step.output.0] = own || step.inputs.iter().any(|input| tracked[input.0]);
        }
        tracked
    }

    /// Releases a forward pass without a backward pass.
    pub fn discard(&self, tape: Tape) {
        let Record { values, sums, .. } = tape.record;
        values
            .into_iter()
            .chain(sums)
            .flatten()
            .for_each(|buffer| self.buffers.give(buffer));
    }

    /// The gradient of [`Executable::backward`] where nothing has one.
    pub fn zero_gradient(&self, length: usize) -> Vec<f32> {
        zeros(length, &self.buffers)
    }

    /// Returns a gradient of [`Executable::backward`], so that the next image uses its memory.
    pub fn recycle(&self, gradient: Vec<f32>) {
        self.buffers.give(gradient);
    }
}

/// The backward pass of an operator, with what its forward pass kept.
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
