//! What learning would take, without doing it: the same buffers in the same order, as lengths.

use std::collections::HashMap;

use clr_kernels::{ConvGradient, PackedConv};
use clr_onnx::ValueId;
use serde::{Deserialize, Serialize};

use super::{Body, SiteParameters, Step, Work};

/// What learning takes on one thread, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Frozen weights, packed for the way there.
    pub weights: usize,
    /// Frozen weights, packed for the way back.
    pub gradient_weights: usize,
    /// Values of one picture and its gradients.
    pub values: usize,
    /// The kernels' own working memory.
    pub scratch: usize,
    /// What stands before the first trained site, for one picture.
    pub start: usize,
    /// Parameters of all sites, in blocks.
    pub parameters: usize,
}

impl Footprint {
    /// Everything but pictures' starts and the optimiser's state.
    pub fn total(&self) -> usize {
        self.weights + self.gradient_weights + self.values + self.scratch + self.parameters
    }
}

/// [`super::buffers::Buffers`] as lengths.
#[derive(Default)]
struct Counted {
    /// Buffers not in use, by length.
    free: HashMap<usize, usize>,
    /// Values of all buffers, in use or not.
    values: usize,
    /// The most that these ever were.
    most: usize,
}

impl Counted {
    fn take(&mut self, length: usize) -> usize {
        match self.free.get_mut(&length) {
            Some(free) if *free > 0 => *free -= 1,
            _ => {
                self.values += length;
                self.most = self.most.max(self.values);
            }
        }
        length
    }

    fn give(&mut self, length: usize) {
        *self.free.entry(length).or_default() += 1;
    }

    fn free(&mut self) {
        self.values -= self
            .free
            .drain()
            .map(|(length, buffers)| length * buffers)
            .sum::<usize>();
    }
}

/// A [`super::run::Tape`] of lengths.
struct Lengths {
    values: Vec<Option<usize>>,
    sums: Vec<Option<usize>>,
}

impl Body {
    /// What a pass with these trained sites takes, from the first step of each of `segments`.
    pub(crate) fn footprint(&self, sites: &[SiteParameters], segments: &[usize]) -> Footprint {
        let tracked = self.tracked(sites);
        let mut pool = Counted::default();
        let start = self.count_start(segments.first().copied().unwrap_or(self.steps.len()), &mut pool);
        let result: usize = sites.iter().map(|site| site.blocks.len()).sum();
        self.count_learning(&start, segments, &tracked, result, &mut pool);
        let (mut weights, mut gradient_weights, mut scratch) = (0, 0, 0);
        for step in &self.steps {
            let Work::Site(site) = &step.work else { continue };
            let conv = site.frozen.weights();
            weights += PackedConv::bytes_of(conv, site.form)
                + size_of::<f32>() * 2 * self.lengths[step.output.0] / (site.output[0] * site.output[1]).max(1);
            if tracked[step.inputs[0].0] {
                gradient_weights += ConvGradient::bytes_of(conv, site.input);
            }
            let [from, to] = [step.inputs[0], step.output].map(|id| self.lengths[id.0]);
            scratch = scratch.max(2 * from.max(to));
        }
        let bytes = |values: usize| size_of::<f32>() * values;
        Footprint {
            weights,
            gradient_weights,
            values: bytes(pool.most),
            scratch: bytes(scratch),
            start: bytes(start.iter().map(|(_, length)| length).sum()),
            parameters: bytes(2 * result),
        }
    }

    /// First steps of `count` segments from `first` on, of about equal memory for the way back.
    pub(crate) fn segments(&self, first: usize, count: usize) -> Vec<usize> {
        if first == self.steps.len() {
            return Vec::new();
        }
        let length = |step: &Step| self.lengths[step.output.0] * if matches!(step.work, Work::Site(_)) { 2 } else { 1 };
        let total: usize = self.steps[first..].iter().map(length).sum();
        let mut segments = vec![first];
        let mut sum = 0;
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            if index > first && sum * count >= total * segments.len() && segments.len() < count {
                segments.push(index);
            }
            sum += length(step);
        }
        segments
    }

    fn count_start(&self, first: usize, pool: &mut Counted) -> Vec<(ValueId, usize)> {
        let mut values: Vec<Option<usize>> = vec![None; self.lengths.len()];
        values[ValueId::IMAGE.0] = Some(pool.take(self.lengths[ValueId::IMAGE.0]));
        for step in &self.steps[..first] {
            values[step.output.0] = Some(pool.take(self.lengths[step.output.0]));
            for released in &step.release {
                release(&mut values, *released, pool);
            }
        }
        let live = self.live(first);
        let start = live
            .iter()
            .filter_map(|id| values[id.0].map(|length| (*id, length)))
            .collect();
        values.into_iter().flatten().for_each(|length| pool.give(length));
        start
    }

    fn count_learning(
        &self,
        start: &[(ValueId, usize)],
        segments: &[usize],
        tracked: &[bool],
        result: usize,
        pool: &mut Counted,
    ) {
        let mut tape = Lengths {
            values: vec![None; self.lengths.len()],
            sums: vec![None; self.steps.len()],
        };
        for (id, length) in start {
            tape.values[id.0] = Some(pool.take(*length));
        }
        let between = self.between(segments);
        let end = |index: usize| segments.get(index + 1).copied().unwrap_or(self.steps.len());
        for (index, &first) in segments.iter().enumerate() {
            self.count_segment(
                first..end(index),
                &mut tape,
                &between,
                index + 1 == segments.len(),
                pool,
            );
            if segments.len() > 1 {
                pool.free();
            }
        }
        release(&mut tape.values, self.features, pool);

        pool.take(result);
        let mut gradients: Vec<Option<usize>> = vec![None; self.lengths.len()];
        gradients[self.features.0] = Some(pool.take(self.lengths[self.features.0]));
        for (segment, &first) in segments.iter().enumerate().rev() {
            if segment + 1 != segments.len() {
                self.count_segment(first..end(segment), &mut tape, &between, true, pool);
            }
            for index in (first..end(segment)).rev() {
                self.count_step_back(index, tracked, &mut gradients, pool);
            }
            for index in first..end(segment) {
                let value = tape.values[self.steps[index].output.0].take();
                [value, tape.sums[index].take()]
                    .into_iter()
                    .flatten()
                    .for_each(|length| pool.give(length));
            }
            if segments.len() > 1 {
                pool.free();
            }
        }
    }

    fn count_segment(
        &self,
        steps: std::ops::Range<usize>,
        tape: &mut Lengths,
        between: &[bool],
        keep: bool,
        pool: &mut Counted,
    ) {
        let mut kept = between.to_vec();
        for index in steps {
            let step = &self.steps[index];
            let out = pool.take(self.lengths[step.output.0]);
            if matches!(step.work, Work::Site(_)) {
                let sum = pool.take(out);
                if keep {
                    tape.sums[index] = Some(sum);
                } else {
                    pool.give(sum);
                }
            }
            if tape.values[step.output.0].is_some() {
                pool.give(out);
            } else {
                tape.values[step.output.0] = Some(out);
            }
            if keep {
                for &value in &step.kept {
                    kept[value.0] = true;
                }
            }
            for released in step.release.iter().filter(|released| !kept[released.0]) {
                release(&mut tape.values, *released, pool);
            }
        }
    }

    fn count_step_back(&self, index: usize, tracked: &[bool], gradients: &mut [Option<usize>], pool: &mut Counted) {
        let step = &self.steps[index];
        let Some(dy) = gradients[step.output.0].take() else {
            return;
        };
        if tracked[step.output.0] {
            let wanted = step.inputs.iter().filter(|input| tracked[input.0]);
            let inputs: Vec<ValueId> = match step.work {
                Work::Site(_) | Work::Add(_) => wanted.copied().collect(),
                _ => vec![step.inputs[0]],
            };
            for input in inputs {
                let dx = pool.take(self.lengths[input.0]);
                if gradients[input.0].is_some() {
                    pool.give(dx);
                } else {
                    gradients[input.0] = Some(dx);
                }
            }
        }
        pool.give(dy);
    }
}

fn release(values: &mut [Option<usize>], id: ValueId, pool: &mut Counted) {
    if let Some(length) = values[id.0].take() {
        pool.give(length);
    }
}

#[cfg(test)]
impl Body {
    /// Bytes of the buffers when they were the most.
    pub(crate) fn most(&self) -> usize {
        self.buffers.most()
    }

    /// Bytes that are packed for the way there and the way back, and of the kernels' working memory.
    pub(crate) fn packed(&self) -> [usize; 3] {
        let sites = || {
            self.steps.iter().filter_map(|step| match &step.work {
                Work::Site(site) => Some(site),
                _ => None,
            })
        };
        let there = sites().filter_map(|site| site.forms.get());
        let back = sites().filter_map(|site| site.gradient.get().and_then(Option::as_ref));
        [
            there
                .map(|forms| forms.conv.conv.bytes() + size_of::<f32>() * forms.plain.len())
                .sum(),
            back.map(ConvGradient::bytes).sum(),
            self.arena.bytes(),
        ]
    }
}
