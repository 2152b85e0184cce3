//! Output channels that are copies of input channels: Concat, Split, Slice and Gather along the channels, and channel
//! shuffle.

use crate::simd::{LANES, vectors, vectors_mut};

/// A mapping from the channels of several inputs to output channels, the same for every pixel. Lanes beyond the
/// channels of an input are not read; those of the output are written as zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMap {
    /// Channels of each input.
    inputs: Vec<usize>,
    /// Pixels of a plane.
    pixels: usize,
    /// The sources of each output block.
    blocks: Vec<Sources>,
}

/// The source channels of one output block, at most sixteen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sources {
    /// This number of consecutive channels, starting at the first lane of a block.
    Aligned(Channel, usize),
    /// Individual channels.
    Single(Vec<Channel>),
}

/// A channel of one of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    input: usize,
    channel: usize,
}

impl ChannelMap {
    /// Returns the mapping in which output channel `c` is channel `index[c]` of the concatenated inputs. `inputs`
    /// contains their numbers of channels.
    ///
    /// # Panics
    /// If the inputs have no such channel.
    pub fn new(inputs: &[usize], index: &[u32], pixels: usize) -> Self {
        let all: Vec<Channel> = (inputs.iter().enumerate())
            .flat_map(|(input, &channels)| (0..channels).map(move |channel| Channel { input, channel }))
            .collect();
        let blocks = index.chunks(LANES).map(|index| {
            let sources: Vec<Channel> = index.iter().map(|&from| all[from as usize]).collect();
            let first = sources[0];
            let follows = sources.iter().enumerate().all(|(lane, source)| {
                let channel = first.channel + lane;
                *source == Channel { channel, ..first }
            });
            if follows && first.channel.is_multiple_of(LANES) {
                Sources::Aligned(first, sources.len())
            } else {
                Sources::Single(sources)
            }
        });
        Self {
            inputs: inputs.to_vec(),
            pixels,
            blocks: blocks.collect(),
        }
    }

    /// Returns the values of an input in blocks.
    fn length(&self, input: usize) -> usize {
        self.inputs[input].div_ceil(LANES) * self.pixels * LANES
    }

    /// Computes `out` from the inputs, all in blocks of sixteen channels.
    pub fn run(&self, inputs: &[&[f32]], out: &mut [f32]) {
        assert_eq!(out.len(), self.blocks.len() * self.pixels * LANES);
        assert!(inputs.len() == self.inputs.len());
        assert!(inputs.iter().enumerate().all(|(at, x)| x.len() == self.length(at)));
        let plane = |from: Channel| &vectors(inputs[from.input])[from.channel / LANES * self.pixels..][..self.pixels];
        for (sources, out) in self.blocks.iter().zip(vectors_mut(out).chunks_exact_mut(self.pixels)) {
            match sources {
                &Sources::Aligned(first, count) => {
                    for (out, x) in out.iter_mut().zip(plane(first)) {
                        *out = [0.0; LANES];
                        out[..count].copy_from_slice(&x[..count]);
                    }
                }
                Sources::Single(sources) => {
                    // Lanes beyond the channels read the same source as the first lane, and are then cleared.
                    let source = |lane: usize| *sources.get(lane).unwrap_or(&sources[0]);
                    let planes: [&[[f32; LANES]]; LANES] = std::array::from_fn(|lane| plane(source(lane)));
                    let lanes: [usize; LANES] = std::array::from_fn(|lane| source(lane).channel % LANES);
                    for (pixel, out) in out.iter_mut().enumerate() {
                        *out = std::array::from_fn(|lane| planes[lane][pixel][lanes[lane]]);
                        out[sources.len()..].fill(0.0);
                    }
                }
            }
        }
    }

    /// Computes the complete gradients of the inputs from `dy`, the gradient of the output. A channel that was copied
    /// several times gets the sum. `None` skips an input whose gradient is not needed.
    pub fn gradient(&self, dy: &[f32], dx: &mut [Option<&mut [f32]>]) {
        assert_eq!(dy.len(), self.blocks.len() * self.pixels * LANES);
        assert!(dx.len() == self.inputs.len());
        let wanted = |(at, dx): (usize, &Option<&mut [f32]>)| dx.as_ref().is_none_or(|dx| dx.len() == self.length(at));
        assert!(dx.iter().enumerate().all(wanted));
        let mut dx: Vec<Option<&mut [[f32; LANES]]>> =
            dx.iter_mut().map(|dx| dx.as_deref_mut().map(vectors_mut)).collect();
        dx.iter_mut().flatten().for_each(|dx| dx.fill([0.0; LANES]));
        let start = |from: Channel| from.channel / LANES * self.pixels;
        for (sources, dy) in self.blocks.iter().zip(vectors(dy).chunks_exact(self.pixels)) {
            match sources {
                &Sources::Aligned(first, count) => {
                    let Some(dx) = &mut dx[first.input] else { continue };
                    for (dx, dy) in dx[start(first)..][..self.pixels].iter_mut().zip(dy) {
                        dx[..count].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
                    }
                }
                Sources::Single(sources) => {
                    for (lane, &source) in sources.iter().enumerate() {
                        let Some(dx) = &mut dx[source.input] else { continue };
                        for (dx, dy) in dx[start(source)..][..self.pixels].iter_mut().zip(dy) {
                            dx[source.channel % LANES] += dy[lane];
                        }
                    }
                }
            }
        }
    }
}
