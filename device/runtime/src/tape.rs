//! Forward pass that records a tape for the backward pass.

use std::ops::Range;

use clr_onnx::ValueId;

use crate::{
    Executable, SiteParameters,
    executable::Work,
    inference::{Values, operands, release},
    memory::{Buffer, Memory},
};

/// Values of the forward pass of some images that the backward pass reads.
pub struct Tape {
    pub(crate) records: Vec<Record<Vec<f32>>>,
    /// First steps of the segments; the backward pass recomputes the steps of all but the last.
    pub(crate) segments: Vec<usize>,
    /// `[F]` of each image.
    pub(crate) features: Vec<Vec<f32>>,
}

impl Tape {
    /// The features `[F]` of each image.
    pub fn features(&self) -> &[Vec<f32>] {
        &self.features
    }
}

/// An image's values, or their lengths.
pub(crate) struct Record<B> {
    /// Values of the graph.
    pub(crate) values: Values<B>,
    /// The bare convolution's result, by step.
    pub(crate) sums: Vec<Option<B>>,
}

impl<B> Record<B> {
    /// Creates a record that starts with these values.
    pub(crate) fn new(values: Values<B>, steps: usize) -> Self {
        Self {
            values,
            sums: (0..steps).map(|_| None).collect(),
        }
    }
}

impl Executable {
    /// Runs the forward pass from the images' prefixes, and records the values that the backward pass needs. All
    /// segments except the last record only the values between segments.
    pub(crate) fn record<M: Memory>(
        &self,
        prefixes: Vec<Values<M::Buffer>>,
        sites: &[SiteParameters],
        segments: &[usize],
        memory: &M,
    ) -> Vec<Record<M::Buffer>> {
        assert!(!self.integer, "a step on bytes has no backward pass");
        let start = |prefix| Record::new(prefix, self.steps.len());
        let mut records: Vec<_> = prefixes.into_iter().map(start).collect();
        let between = self.between(segments);
        for index in 0..segments.len() {
            let last = index + 1 == segments.len();
            let steps = self.segment(segments, index);
            self.record_segment(steps, &mut records, sites, &between, last, memory);
            trim_between(segments, memory);
        }
        records
    }

    /// The steps of a segment.
    pub(crate) fn segment(&self, segments: &[usize], index: usize) -> Range<usize> {
        segments[index]..segments.get(index + 1).copied().unwrap_or(self.steps.len())
    }

    /// Runs the steps of one segment, each for all images. With `keep`, the values that its backward pass reads are
    /// kept. A value in `between` is kept in any case.
    pub(crate) fn record_segment<M: Memory>(
        &self,
        steps: Range<usize>,
        records: &mut [Record<M::Buffer>],
        sites: &[SiteParameters],
        between: &[bool],
        keep: bool,
        memory: &M,
    ) {
        // If an earlier step keeps a value, a later step must not release it.
        let mut kept = between.to_vec();
        for index in steps {
            let step = &self.steps[index];
            let take = || {
                records
                    .iter()
                    .map(|_| memory.take(self.lengths[step.output.0]))
                    .collect()
            };
            let mut outs: Vec<M::Buffer> = take();
            let mut sums: Vec<M::Buffer> = if step.convolution().is_some() {
                take()
            } else {
                Vec::new()
            };
            if M::COMPUTES {
                let inputs: Vec<Vec<&[f32]>> = records.iter().map(|record| operands(step, &record.values)).collect();
                match &step.work {
                    Work::Convolution(conv) => {
                        let images = inputs.iter().zip(&mut sums);
                        conv.forward_bare(images.map(|(inputs, sum)| (inputs[0], sum.values_mut())));
                        let SiteParameters { epilogue, blocks, .. } = &sites[conv.site];
                        for ((inputs, sum), out) in inputs.iter().zip(&sums).zip(&mut outs) {
                            conv.finish(*epilogue, blocks, sum.values(), inputs, out.values_mut());
                        }
                    }
                    Work::Operator(operator) => {
                        for (inputs, out) in inputs.iter().zip(&mut outs) {
                            operator.forward(inputs, out.values_mut());
                        }
                    }
                }
            }
            if keep {
                step.mark_kept(&mut kept);
            }
            let mut sums = sums.into_iter();
            for (record, out) in records.iter_mut().zip(outs) {
                match sums.next() {
                    Some(sum) if keep => record.sums[index] = Some(sum),
                    Some(sum) => memory.give(sum),
                    None => {}
                }
                // When a segment runs again, the values between segments already exist.
                match &mut record.values[step.output.0] {
                    Some(_) => memory.give(out),
                    empty => *empty = Some(out),
                }
                for &last in step.last_uses.iter().filter(|last| !kept[last.0]) {
                    release(&mut record.values, last, memory);
                }
            }
        }
    }

    /// Returns the values computed before step `first` that this or a later step reads.
    pub(crate) fn live(&self, first: usize) -> Vec<ValueId> {
        let mut computed = vec![false; self.lengths.len()];
        computed[self.entry.0] = true;
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

    /// Returns for each value whether it is kept because a segment starts with it.
    pub(crate) fn between(&self, segments: &[usize]) -> Vec<bool> {
        let mut between = vec![false; self.lengths.len()];
        if segments.len() > 1 {
            let live = segments.iter().flat_map(|&first| self.live(first));
            live.for_each(|id| between[id.0] = true);
        }
        between
    }
}

/// Frees unused buffers between segments. Each segment needs buffers of other lengths; kept for all segments, they
/// would take as much memory as without segments.
pub(crate) fn trim_between<M: Memory>(segments: &[usize], memory: &M) {
    if segments.len() > 1 {
        memory.trim();
    }
}
