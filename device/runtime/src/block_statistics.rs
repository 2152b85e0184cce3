//! Statistics of the block outputs of an image: what the feature profile of a task describes.

use clr_kernels::LANES;
use clr_onnx::ValueId;

use crate::{Executable, SiteParameters, inference::value};

impl Executable {
    /// Returns the number of block statistics, `S`: two per channel of every block output.
    #[must_use]
    pub fn block_statistics_count(&self) -> usize {
        self.block_outputs.iter().map(|block| 2 * block.channels).sum()
    }

    /// Returns the features `[F]` of a preprocessed image `[C, H, W]`, bit-identical to [`Executable::features`], and
    /// its block statistics `[S]`: for each block output in turn, the mean of every channel over the map, and then the
    /// standard deviation of every channel.
    pub fn features_and_block_statistics(&self, image: &[f32], sites: &[SiteParameters]) -> (Vec<f32>, Vec<f32>) {
        let memory = &*self.arena;
        let mut values = self.no_values();
        values[ValueId::IMAGE.0] = Some(self.pixels(image, memory));
        let mut statistics = Vec::with_capacity(self.block_statistics_count());
        let mut done = 0;
        for block in &self.block_outputs {
            self.infer(done..block.steps, &mut values, sites, memory);
            append(value(&values, block.value), block.channels, &mut statistics);
            done = block.steps;
        }
        self.infer(done..self.steps.len(), &mut values, sites, memory);
        (self.take_features(&mut values, memory), statistics)
    }
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
