//! Activations before the first trained site, computed once per image.

use clr_onnx::ValueId;

use crate::{
    Executable, SiteParameters,
    inference::{Values, value},
    memory::{Buffer, Memory},
};

/// Activations of an image before the first trained site; its features if no site is trained. They do not change while
/// later sites are trained, so they can be computed once and cached.
#[derive(Clone, Debug)]
pub struct PrefixActivations {
    values: Vec<(ValueId, Vec<f32>)>,
    /// The step to continue with.
    step: usize,
}

impl PrefixActivations {
    /// Returns the step to continue with.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        let values = self.values.iter();
        values.map(|(_, values)| size_of::<f32>() * values.capacity()).sum()
    }
}

impl Executable {
    /// Returns the first step that computes a trained site; the number of steps if no site is trained.
    pub fn first_trained(&self, sites: &[SiteParameters]) -> usize {
        let trained = |site: usize| sites[site].is_trained();
        let first = self
            .steps
            .iter()
            .position(|step| step.convolution().is_some_and(|conv| trained(conv.site)));
        first.unwrap_or(self.steps.len())
    }

    /// Returns the activations of a preprocessed image `[C, H, W]` before step `first`.
    pub fn prefix(&self, image: &[f32], sites: &[SiteParameters], first: usize) -> PrefixActivations {
        let memory = &self.buffers;
        let mut values = self.run_prefix(image, sites, first, memory);
        let kept = self.keep_prefix(&values, first);
        values
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|buffer| memory.give(buffer));
        kept
    }

    /// Copies the values that the steps from `first` on read.
    pub(crate) fn keep_prefix<B: Buffer>(&self, values: &Values<B>, first: usize) -> PrefixActivations {
        // Copies with the exact length, because buffers are returned to their source.
        let live = self.live(first).into_iter();
        PrefixActivations {
            values: live.map(|id| (id, value(values, id).to_vec())).collect(),
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
        let mut values = self.enter(image, memory);
        self.infer(0..first, &mut values, sites, memory);
        values
    }

    pub(crate) fn load_prefix(&self, prefix: &PrefixActivations) -> Values<Vec<f32>> {
        let mut values = self.no_values();
        for (id, stored) in &prefix.values {
            let mut copy = self.buffers.take(stored.len());
            copy.copy_from_slice(stored);
            values[id.0] = Some(copy);
        }
        values
    }

    /// Returns the features `[F]` computed from `prefix`, bit-identical to [`Executable::features`] for the same image.
    pub fn features_from_prefix(&self, prefix: &PrefixActivations, sites: &[SiteParameters]) -> Vec<f32> {
        let mut values = self.load_prefix(prefix);
        self.infer(prefix.step..self.steps.len(), &mut values, sites, &self.buffers);
        self.take_features(&mut values, &self.buffers)
    }
}
