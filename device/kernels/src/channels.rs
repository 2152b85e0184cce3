//! What moves or mixes channels: gathering, the 1-D convolution along the channels, softmax over groups.
//!
//! Channel `c` of a value is in block `c / 16`, lane `c % 16`. Lanes beyond the channels are not read and are written
//! as zero.

use crate::{
    activation::exp,
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// `out[c]` is channel `index[c]` of the parts, one after another, on planes of `pixels`: Concat, Split, Slice and Gather along the
/// channels, channel shuffle. `parts` are (value in blocks, channels).
pub fn gather_channels(parts: &[(&[f32], usize)], index: &[u32], pixels: usize, out: &mut [f32]) {
    assert_eq!(out.len(), index.len().div_ceil(LANES) * pixels * LANES);
    let counts: Vec<usize> = parts.iter().map(|(_, channels)| *channels).collect();
    let plane = |from: Place| &vectors(parts[from.part].0)[from.channel / LANES * pixels..][..pixels];
    for (index, out) in index.chunks(LANES).zip(vectors_mut(out).chunks_exact_mut(pixels)) {
        let places: Vec<Place> = index.iter().map(|&from| locate(from as usize, &counts)).collect();
        if let Some(first) = aligned(&places) {
            // A block of a part, or the part of it that is wanted.
            for (out, x) in out.iter_mut().zip(plane(first)) {
                *out = [0.0; LANES];
                out[..index.len()].copy_from_slice(&x[..index.len()]);
            }
            continue;
        }
        // Lanes beyond the channels read what the first one reads, and are cleared.
        let place = |lane: usize| *places.get(lane).unwrap_or(&places[0]);
        let planes: [&[[f32; LANES]]; LANES] = std::array::from_fn(|lane| plane(place(lane)));
        let lanes: [usize; LANES] = std::array::from_fn(|lane| place(lane).channel % LANES);
        for (pixel, out) in out.iter_mut().enumerate() {
            *out = std::array::from_fn(|lane| planes[lane][pixel][lanes[lane]]);
            out[index.len()..].fill(0.0);
        }
    }
}

/// A channel of one of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub part: usize,
    pub channel: usize,
}

/// The place of channel `from` of parts with `counts` channels, one after another.
pub(crate) fn locate(from: usize, counts: &[usize]) -> Place {
    let mut channel = from;
    for (part, &count) in counts.iter().enumerate() {
        if channel < count {
            return Place { part, channel };
        }
        channel -= count;
    }
    panic!("channel {from} of {counts:?}")
}

/// The first of up to sixteen places that follow one another from the first lane of a block on.
pub(crate) fn aligned(places: &[Place]) -> Option<Place> {
    let first = places[0];
    let follows = places.iter().enumerate().all(|(lane, place)| {
        let channel = first.channel + lane;
        *place == Place { channel, ..first }
    });
    (follows && first.channel.is_multiple_of(LANES)).then_some(first)
}

/// `out[c] = bias + Σ_k kernel[k] · x[c + k − before]`, with zeros beyond the channels: a convolution along the channels
/// of a vector `[C]` (efficient channel attention). `pads` are the zeros before and after.
pub fn channel_conv(x: &[f32], channels: usize, kernel: &[f32], bias: f32, pads: [usize; 2], out: &mut [f32]) {
    let outputs = channel_conv_outputs(channels, kernel.len(), pads);
    assert!(x.len() >= channels && out.len() >= outputs);
    out.fill(0.0);
    for (c, out) in out[..outputs].iter_mut().enumerate() {
        let (from, to) = reach(c, channels, kernel.len(), pads[0]);
        *out = bias + (from..to).map(|k| kernel[k] * x[c + k - pads[0]]).sum::<f32>();
    }
}

/// Returns the channels that [`channel_conv`] makes of `channels`.
pub fn channel_conv_outputs(channels: usize, kernel: usize, pads: [usize; 2]) -> usize {
    (channels + pads[0] + pads[1] + 1).saturating_sub(kernel)
}

/// The taps of output channel `c` that meet a channel.
pub(crate) fn reach(c: usize, channels: usize, kernel: usize, before: usize) -> (usize, usize) {
    let from = before.saturating_sub(c).min(kernel);
    let to = (channels + before).saturating_sub(c).min(kernel);
    (from, to.max(from))
}

/// Softmax over the G groups of a vector viewed `[G, C]`, in place: for each of the C its G values sum to 1. `x` holds
/// `groups · C` channels; the rest is left as it is.
pub fn softmax_groups(isa: Isa, x: &mut [f32], channels: usize, groups: usize) {
    assert!(x.len() >= channels && groups > 0 && channels.is_multiple_of(groups));
    let each = channels / groups;
    let mut largest = vec![f32::NEG_INFINITY; each];
    for group in x[..channels].chunks_exact(each.max(1)) {
        // A NaN stays, whatever it is compared with.
        let larger = |largest: &mut f32, &x: &f32| *largest = if x <= *largest { *largest } else { x };
        largest
            .iter_mut()
            .zip(group)
            .for_each(|(largest, x)| larger(largest, x));
    }
    for group in x[..channels].chunks_exact_mut(each.max(1)) {
        group.iter_mut().zip(&largest).for_each(|(x, largest)| *x -= largest);
    }
    dispatch(isa, Exponentials(&mut x[..channels]));
    let mut sums = vec![0.0_f32; each];
    for group in x[..channels].chunks_exact(each.max(1)) {
        sums.iter_mut().zip(group).for_each(|(sum, x)| *sum += x);
    }
    for group in x[..channels].chunks_exact_mut(each.max(1)) {
        group.iter_mut().zip(&sums).for_each(|(x, sum)| *x /= sum);
    }
}

/// `e^x` in place.
struct Exponentials<'a>(&'a mut [f32]);

impl Kernel for Exponentials<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for part in self.0.chunks_mut(LANES) {
            let mut values = [0.0; LANES];
            values[..part.len()].copy_from_slice(part);
            exp(s, s.load(&values)).store(&mut values);
            part.copy_from_slice(&values[..part.len()]);
        }
    }
}
