//! Operations across channels: 1-D convolution along the channels, and softmax over groups.
//!
//! Channel `c` of a value is in block `c / 16`, lane `c % 16`. Lanes beyond the channels are not read and are written
//! as zero.

use crate::{
    activation::exp,
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch},
};

/// Computes `out[c] = bias + Σ_k kernel[k] · x[c + k − before]`, with zeros beyond the channels. This is a convolution
/// along the channels of a vector `[C]` (efficient channel attention). `pads` are the numbers of zeros before and
/// after.
pub fn channel_conv(x: &[f32], channels: usize, kernel: &[f32], bias: f32, pads: [usize; 2], out: &mut [f32]) {
    let outputs = channel_conv_outputs(channels, kernel.len(), pads);
    assert!(x.len() >= channels && out.len() >= outputs);
    out.fill(0.0);
    for (c, out) in out[..outputs].iter_mut().enumerate() {
        let (from, to) = reach(c, channels, kernel.len(), pads[0]);
        *out = bias + (from..to).map(|k| kernel[k] * x[c + k - pads[0]]).sum::<f32>();
    }
}

/// Returns the number of output channels of [`channel_conv`] for `channels` input channels.
pub fn channel_conv_outputs(channels: usize, kernel: usize, pads: [usize; 2]) -> usize {
    (channels + pads[0] + pads[1] + 1).saturating_sub(kernel)
}

/// Returns the range of taps of output channel `c` that meet an input channel.
pub(crate) fn reach(c: usize, channels: usize, kernel: usize, before: usize) -> (usize, usize) {
    let from = before.saturating_sub(c).min(kernel);
    let to = (channels + before).saturating_sub(c).min(kernel);
    (from, to.max(from))
}

/// Computes a softmax over the G groups of a vector viewed as `[G, C]`, in place: for each of the C channels, its G
/// values sum to 1. `x` contains `groups · C` channels; lanes beyond them stay unchanged.
pub fn softmax_groups(isa: Isa, x: &mut [f32], channels: usize, groups: usize) {
    assert!(x.len() >= channels && groups > 0 && channels.is_multiple_of(groups));
    let each = channels / groups;
    let mut largest = vec![f32::NEG_INFINITY; each];
    for group in x[..channels].chunks_exact(each.max(1)) {
        // NaN is kept, whatever it is compared with.
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
