//! Forward pass with a tape.

use std::ops::Range;

use clr_onnx::ValueId;

use crate::{
    Executable, SiteParameters,
    executable::Work,
    inference::{Values, operands, release},
    memory::{Buffer, Memory},
};

/// The values of a forward pass that the backward pass reads.
pub struct Tape {
    pub(crate) record: Record<Vec<f32>>,
    /// `[F]`.
    pub(crate) features: Vec<f32>,
}

impl Tape {
    /// The features `[F]`.
    pub fn features(&self) -> &[f32] {
        &self.features
    }
}

/// Values, or their lengths.
pub(crate) struct Record<B> {
    /// Values of the graph.
    pub(crate) values: Values<B>,
    /// The bare convolution's result, by step.
    pub(crate) sums: Vec<Option<B>>,
    /// First steps of the segments; the steps of all but the last are recomputed by the backward pass.
    pub(crate) segments: Vec<usize>,
}

impl<B> Record<B> {
    /// A record that starts with these values.
    pub(crate) fn new(values: Values<B>, steps: usize, segments: &[usize]) -> Self {
        Self {
            values,
            sums: (0..steps).map(|_| None).collect(),
            segments: segments.to_vec(),
        }
    }

    /// The steps of a segment.
    pub(crate) fn segment(&self, index: usize) -> Range<usize> {
        let end = self.segments.get(index + 1).copied().unwrap_or(self.sums.len());
        self.segments[index]..end
    }
}

impl Executable {
    /// Runs forward from `prefix`, recording what the backward pass needs. All segments but the last record only the values between
    /// them.
    pub(crate) fn record<M: Memory>(
        &self,
        prefix: Values<M::Buffer>,
        sites: &[SiteParameters],
        segments: &[usize],
        memory: &M,
    ) -> Record<M::Buffer> {
        let mut record = Record::new(prefix, self.steps.len(), segments);
        let between = self.between(segments);
        for index in 0..segments.len() {
            let last = index + 1 == segments.len();
            self.record_segment(record.segment(index), &mut record, sites, &between, last, memory);
            trim_between(segments, memory);
        }
        record
    }

    /// The steps of one segment; with `keep`, what its backward pass reads stays. A value in `between` stays in any case.
    pub(crate) fn record_segment<M: Memory>(
        &self,
        steps: Range<usize>,
        record: &mut Record<M::Buffer>,
        sites: &[SiteParameters],
        between: &[bool],
        keep: bool,
        memory: &M,
    ) {
        // A value that an earlier step keeps is not released by a later one.
        let mut kept = between.to_vec();
        for index in steps {
            let step = &self.steps[index];
            // A value between segments already exists when its segment runs again.
            let exists = record.values[step.output.0].is_some();
            let mut out = memory.take(self.lengths[step.output.0]);
            match &step.work {
                Work::Convolution(conv) => {
                    let mut sum = memory.take(self.lengths[step.output.0]);
                    if M::COMPUTES {
                        let inputs = operands(step, &record.values);
                        conv.forward_taped(&sites[conv.site], &inputs, sum.values_mut(), out.values_mut());
                    }
                    if keep {
                        record.sums[index] = Some(sum);
                    } else {
                        memory.give(sum);
                    }
                }
                Work::Operator(operator) => {
                    if M::COMPUTES {
                        operator.forward(&operands(step, &record.values), out.values_mut());
                    }
                }
            }
            if exists {
                memory.give(out);
            } else {
                record.values[step.output.0] = Some(out);
            }
            if keep {
                step.mark_kept(&mut kept);
            }
            for &last in step.last_uses.iter().filter(|last| !kept[last.0]) {
                release(&mut record.values, last, memory);
            }
        }
    }

    /// Values computed before step `first` that it or a later one reads.
    pub(crate) fn live(&self, first: usize) -> Vec<ValueId> {
        let mut computed = vec![false; self.lengths.len()];
        computed[ValueId::IMAGE.0] = true;
        self.steps[..first]
            .iter()
            .for_each(|step| computed[step.output.0] = true);
        let reads = self.steps[first..].iter().flat_map(|step| step.inputs.iter().copied());
        let mut live: Vec<ValueId> = reads.collect();
        if first == self.steps.len() {
            live.push(self.features);
        }
        live.sort_unstable();
        live.dedup();
        live.retain(|id| computed[id.0]);
        live
    }

    /// Whether each value stays because a segment starts with it.
    pub(crate) fn between(&self, segments: &[usize]) -> Vec<bool> {
        let mut between = vec![false; self.lengths.len()];
        if segments.len() > 1 {
            let live = segments.iter().flat_map(|&first| self.live(first));
            live.for_each(|id| between[id.0] = true);
        }
        between
    }
}

/// Each segment takes buffers of its own lengths: kept for all of them, these would be as many as without segments.
pub(crate) fn trim_between<M: Memory>(segments: &[usize], memory: &M) {
    if segments.len() > 1 {
        memory.trim();
    }
}
