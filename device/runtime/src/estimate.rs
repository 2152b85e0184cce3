//! Memory estimate of a training step: the same traversal of the steps, with lengths in place of buffers.

use serde::{Deserialize, Serialize};

use crate::{
    Executable, SiteParameters,
    executable::Step,
    memory::{Counted, Memory},
};

/// Memory of training on one thread; sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Frozen weights packed for the forward pass.
    pub weights: usize,
    /// Frozen weights packed for the backward pass.
    pub gradient_weights: usize,
    /// Images that run together ([`Executable::images_together`]).
    pub images: usize,
    /// Values of these images, and their gradients.
    pub values: usize,
    /// Workspace of the kernels.
    pub scratch: usize,
    /// Activations of one image before the first trained site.
    pub start: usize,
    /// Parameters of all sites, in blocks.
    pub parameters: usize,
}

impl Footprint {
    /// Returns the total without the images' prefix activations and the optimiser's state.
    pub fn total(&self) -> usize {
        self.weights + self.gradient_weights + self.values + self.scratch + self.parameters
    }
}

impl Executable {
    /// Memory of a training step of `images` images at once with these sites, in the given segments. Nothing is packed or computed.
    pub fn footprint(&self, sites: &[SiteParameters], segments: &[usize], images: usize) -> Footprint {
        let memory = Counted::default();
        let first = segments.first().copied().unwrap_or(self.steps.len());
        let before = self.run_prefix(&[], sites, first, &memory);
        before.into_iter().flatten().for_each(|length| memory.give(length));
        let live = self.live(first);
        let prefixes = (0..images).map(|_| {
            let mut prefix = self.no_values();
            for id in &live {
                prefix[id.0] = Some(memory.take(self.lengths[id.0]));
            }
            prefix
        });
        let records = self.record(prefixes.collect(), sites, segments, &memory);
        let (places, parameters) = Self::places(sites);
        self.run_backward(
            records,
            &vec![Vec::new(); images],
            sites,
            segments,
            &places,
            parameters,
            &memory,
        );

        let tracked = self.tracked(sites);
        let (mut weights, mut gradient_weights, mut scratch) = (0, 0, 0);
        for step in &self.steps {
            let Some(conv) = step.convolution() else { continue };
            weights += conv.weight_bytes();
            if tracked[step.inputs[0].0] {
                gradient_weights += conv.gradient_bytes();
            }
            let [from, to] = [step.inputs[0], step.output].map(|id| self.lengths[id.0]);
            scratch = scratch.max(conv.scratch_len(from, to, images));
        }
        let bytes = |values: usize| size_of::<f32>() * values;
        Footprint {
            weights,
            gradient_weights,
            images,
            values: bytes(memory.peak()),
            scratch: bytes(scratch),
            start: bytes(live.iter().map(|id| self.lengths[id.0]).sum()),
            parameters: bytes(2 * parameters),
        }
    }

    /// Returns the first steps of `count` segments, starting at `first`, which need about equal memory in the backward
    /// pass.
    pub fn segments(&self, first: usize, count: usize) -> Vec<usize> {
        if first == self.steps.len() {
            return Vec::new();
        }
        let length = |step: &Step| self.lengths[step.output.0] * if step.convolution().is_some() { 2 } else { 1 };
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
}
