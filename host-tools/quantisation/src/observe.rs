//! Statistics of every value of a backbone over images.

use clr_onnx::{Backbone, Program, Shape, ValueId};
use clr_runtime::{Executable, ExecutableOptions, SiteParameters};
use rayon::prelude::*;

use crate::{QuantisationError, images::Input};

/// Channels in a block.
const LANES: usize = 16;
/// Number of images whose statistics are in memory at the same time.
const CHUNK: usize = 16;

/// Statistics of values over all images and positions.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    /// Least and largest number of each value, by [`ValueId`]; not finite for a value that is not computed.
    pub(crate) ranges: Vec<[f32; 2]>,
    /// Mean of each channel of each value; empty for a value that is not computed.
    pub(crate) means: Vec<Vec<f64>>,
    /// Features of each image.
    pub(crate) features: Vec<Vec<f32>>,
}

/// A backbone of which every value can be observed, at several input sizes.
pub(crate) struct Observable {
    /// One for each size.
    sizes: Vec<Compiled>,
    features: ValueId,
}

struct Compiled {
    executable: Executable,
    parameters: Vec<SiteParameters>,
    shapes: Vec<Shape>,
}

impl Observable {
    /// Compiles `backbone` in its float form, with one step for each node.
    pub(crate) fn new(backbone: &Backbone, sizes: &[[usize; 2]]) -> Result<Self, QuantisationError> {
        let mut options: Option<ExecutableOptions> = None;
        let mut compiled = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let program = Program::unfused(backbone, size)?;
            let options = options.get_or_insert_with(|| ExecutableOptions::new(&program));
            let executable = Executable::new(&program, options)?;
            compiled.push(Compiled {
                parameters: executable.frozen_parameters(),
                shapes: program.shapes,
                executable,
            });
        }
        Ok(Self {
            sizes: compiled,
            features: backbone.graph().features,
        })
    }

    /// Runs all images and calls `observe` with every value of an image, its shape and its numbers in blocks of sixteen
    /// channels. The image itself is given as `[C, H, W]`. Returns the results in the order of the images.
    pub(crate) fn run<T: Send>(
        &self,
        inputs: &[Input],
        start: impl Fn() -> T + Sync,
        observe: impl Fn(&mut T, ValueId, Shape, &[f32]) + Sync,
    ) -> Vec<T> {
        let one = |input: &Input| {
            let Compiled {
                executable,
                parameters,
                shapes,
            } = &self.sizes[input.size];
            let mut result = start();
            observe(&mut result, ValueId::IMAGE, shapes[0], &input.values);
            executable.observe(&input.values, parameters, |value, numbers| {
                // Conversions between layouts are values of the executable alone.
                if let Some(&shape) = shapes.get(value.0) {
                    observe(&mut result, value, shape, numbers);
                }
            });
            result
        };
        inputs.par_iter().map(one).collect()
    }

    /// Returns the statistics of all values. They do not depend on the number of threads. `done` is called with a number of
    /// images.
    pub(crate) fn statistics(&self, inputs: &[Input], done: &mut dyn FnMut(usize)) -> Statistics {
        let values = self.sizes.first().map_or(0, |compiled| compiled.shapes.len());
        let empty = || Statistics {
            ranges: vec![[f32::INFINITY, f32::NEG_INFINITY]; values],
            means: vec![Vec::new(); values],
            features: Vec::new(),
        };
        let mut all = empty();
        for chunk in inputs.chunks(CHUNK) {
            let each = self.run(chunk, empty, |own, value, shape, numbers| {
                let summary = if value == ValueId::IMAGE {
                    planes(shape, numbers)
                } else {
                    blocks(shape, numbers)
                };
                if value == self.features {
                    own.features.push(numbers[..shape.channels()].to_vec());
                }
                (own.ranges[value.0], own.means[value.0]) = summary;
            });
            for own in each {
                all.add(own);
            }
            done(chunk.len());
        }
        for mean in all.means.iter_mut().flatten() {
            *mean /= inputs.len() as f64;
        }
        all
    }
}

impl Statistics {
    /// Adds the statistics of an image; means become sums.
    fn add(&mut self, own: Self) {
        for (range, [low, high]) in self.ranges.iter_mut().zip(own.ranges) {
            *range = [range[0].min(low), range[1].max(high)];
        }
        for (sums, means) in self.means.iter_mut().zip(own.means) {
            if sums.is_empty() {
                *sums = means;
            } else {
                sums.iter_mut().zip(means).for_each(|(sum, mean)| *sum += mean);
            }
        }
        self.features.extend(own.features);
    }
}

/// Returns the numbers of a value without lanes after the last channel. The image has none.
pub(crate) fn used(value: ValueId, shape: Shape, numbers: &[f32]) -> impl Iterator<Item = &[f32]> {
    let blocks = if value == ValueId::IMAGE {
        1
    } else {
        shape.channels().div_ceil(LANES)
    };
    let block = numbers.len() / blocks;
    numbers.chunks(LANES).enumerate().map(move |(index, pixel)| {
        let left = shape.channels() - index * LANES / block * LANES;
        if value == ValueId::IMAGE {
            pixel
        } else {
            &pixel[..left.min(LANES)]
        }
    })
}

/// Returns range and means of an image `[C, H, W]`.
fn planes(shape: Shape, numbers: &[f32]) -> ([f32; 2], Vec<f64>) {
    let plane = numbers.len() / shape.channels();
    let range = numbers
        .iter()
        .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &x| {
            [low.min(x), high.max(x)]
        });
    let mean = |plane: &[f32]| plane.iter().map(|&x| f64::from(x)).sum::<f64>() / plane.len() as f64;
    (range, numbers.chunks_exact(plane).map(mean).collect())
}

/// Returns range and means of a value in blocks of sixteen channels. Lanes after the last channel are ignored.
fn blocks(shape: Shape, numbers: &[f32]) -> ([f32; 2], Vec<f64>) {
    let channels = shape.channels();
    let plane = numbers.len() / channels.div_ceil(LANES);
    let mut range = [f32::INFINITY, f32::NEG_INFINITY];
    let mut means = Vec::with_capacity(channels);
    for (block, numbers) in numbers.chunks_exact(plane).enumerate() {
        let (mut low, mut high, mut sums) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0.0_f64; LANES]);
        for pixel in numbers.chunks_exact(LANES) {
            for lane in 0..LANES {
                low[lane] = low[lane].min(pixel[lane]);
                high[lane] = high[lane].max(pixel[lane]);
                sums[lane] += f64::from(pixel[lane]);
            }
        }
        let used = (channels - block * LANES).min(LANES);
        range[0] = low[..used].iter().fold(range[0], |least, &x| least.min(x));
        range[1] = high[..used].iter().fold(range[1], |largest, &x| largest.max(x));
        let pixels = (plane / LANES) as f64;
        means.extend(sums[..used].iter().map(|sum| sum / pixels));
    }
    (range, means)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_after_the_last_channel_are_ignored() {
        // Two blocks of two pixels; channel c is c at both pixels, and the other lanes are garbage.
        let mut numbers = vec![f32::NAN; 2 * 2 * LANES];
        for channel in 0..18 {
            for pixel in 0..2 {
                numbers[(channel / LANES * 2 + pixel) * LANES + channel % LANES] = channel as f32 + pixel as f32;
            }
        }
        let (range, means) = blocks(Shape::Map([18, 1, 2]), &numbers);
        assert_eq!(range, [0.0, 18.0]);
        assert_eq!(
            means,
            (0..18).map(|channel| f64::from(channel) + 0.5).collect::<Vec<_>>()
        );
    }
}
