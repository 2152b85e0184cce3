//! A forward pass that also returns intermediate results: statistics of the block outputs, which the feature profile of a
//! task describes, and activations to continue from.

use clr_kernels::LANES;
use clr_onnx::Quantisation;

use crate::{Executable, PrefixActivations, SiteParameters, inference::value, integer::bytes};

/// What a forward pass returns in addition to the features.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intermediates<'a> {
    /// Whether to compute block statistics.
    pub block_statistics: bool,
    /// Steps before which to keep the activations ([`Executable::first_difference`]), increasing.
    pub prefixes: &'a [usize],
}

/// Results of a forward pass.
#[derive(Clone, Debug)]
pub struct FeaturePass {
    /// Features `[F]`, bit-identical to [`Executable::features`].
    pub features: Vec<f32>,
    /// Block statistics `[S]`: for each block output in turn, the mean of every channel over the map, and then the
    /// standard deviation of every channel. Empty if they were not wanted.
    pub block_statistics: Vec<f32>,
    /// Activations before the wanted steps.
    pub prefixes: Vec<PrefixActivations>,
}

impl Executable {
    /// Returns the first step at which two tasks differ: the first site whose parameters are not clones of the other's. The
    /// number of steps if there is none.
    #[must_use]
    pub fn first_difference(&self, one: &[SiteParameters], other: &[SiteParameters]) -> usize {
        let differs = |site: usize| !one[site].is_clone_of(&other[site]);
        let first = self
            .steps
            .iter()
            .position(|step| step.convolution().is_some_and(|conv| differs(conv.site)));
        first.unwrap_or(self.steps.len())
    }

    /// Runs a preprocessed image `[C, H, W]` through the backbone.
    pub fn pass(&self, image: &[f32], sites: &[SiteParameters], wanted: Intermediates<'_>) -> FeaturePass {
        let memory = &*self.arena;
        let mut values = self.enter(image, memory);
        let mut block_statistics = Vec::new();
        let mut prefixes = Vec::with_capacity(wanted.prefixes.len());
        let mut blocks = self.block_outputs.iter().filter(|_| wanted.block_statistics).peekable();
        let mut kept = wanted.prefixes.iter().copied().peekable();
        let mut done = 0;
        while let Some(next) = blocks
            .peek()
            .map(|block| block.steps)
            .into_iter()
            .chain(kept.peek().copied())
            .min()
        {
            self.infer(done..next, &mut values, sites, memory);
            done = next;
            while let Some(block) = blocks.next_if(|block| block.steps == done) {
                let map = value(&values, block.value);
                match block.grid {
                    Some(grid) => append(&real(map, grid), block.channels, &mut block_statistics),
                    None => append(map, block.channels, &mut block_statistics),
                }
            }
            while kept.next_if_eq(&done).is_some() {
                prefixes.push(self.keep_prefix(&values, done));
            }
        }
        self.infer(done..self.steps.len(), &mut values, sites, memory);
        FeaturePass {
            features: self.take_features(&mut values, memory),
            block_statistics,
            prefixes,
        }
    }
}

/// Returns the real values of bytes.
fn real(map: &[f32], grid: Quantisation) -> Vec<f32> {
    bytes(map).iter().map(|&byte| grid.real(byte)).collect()
}

/// Appends means and deviations `[C]` of a map `[⌈C / 16⌉, H, W, 16]`.
fn append(map: &[f32], channels: usize, statistics: &mut Vec<f32>) {
    let blocks = channels.div_ceil(LANES);
    let mut deviations = Vec::with_capacity(channels);
    let start = statistics.len();
    for block in map.chunks_exact((map.len() / blocks.max(1)).max(1)) {
        let (mut sums, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        let (positions, _) = block.as_chunks::<LANES>();
        for position in positions {
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(position) {
                let value = f64::from(value);
                *sum += value;
                *square += value * value;
            }
        }
        let count = positions.len() as f64;
        for (sum, square) in sums.into_iter().zip(squares) {
            let mean = sum / count;
            statistics.push(mean as f32);
            deviations.push((square / count - mean * mean).max(0.0).sqrt() as f32);
        }
    }
    statistics.truncate(start + channels);
    statistics.extend(&deviations[..channels.min(deviations.len())]);
}
