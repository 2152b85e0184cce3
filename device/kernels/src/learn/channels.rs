//! Gradients of what moves or mixes channels, and of the layouts.

use crate::{
    channels::{Place, aligned, channel_conv_outputs, locate, reach},
    simd::{LANES, vectors, vectors_mut},
};

/// The gradients of [`gather_channels`](crate::gather_channels)' parts, all of them, from `dy`, that of its result: a channel that
/// was taken several times gets the sum. `parts` are (gradient, channels); without a gradient the part is not wanted.
pub fn gather_channels_gradient(dy: &[f32], index: &[u32], pixels: usize, parts: &mut [(Option<&mut [f32]>, usize)]) {
    assert_eq!(dy.len(), index.len().div_ceil(LANES) * pixels * LANES);
    let counts: Vec<usize> = parts.iter().map(|(_, channels)| *channels).collect();
    let mut parts: Vec<Option<&mut [[f32; LANES]]>> = (parts.iter_mut())
        .map(|(dx, _)| dx.as_deref_mut().map(vectors_mut))
        .collect();
    parts.iter_mut().flatten().for_each(|dx| dx.fill([0.0; LANES]));
    for (index, dy) in index.chunks(LANES).zip(vectors(dy).chunks_exact(pixels)) {
        let places: Vec<Place> = index.iter().map(|&from| locate(from as usize, &counts)).collect();
        if let Some(first) = aligned(&places) {
            let Some(dx) = &mut parts[first.part] else { continue };
            for (dx, dy) in dx[first.channel / LANES * pixels..][..pixels].iter_mut().zip(dy) {
                dx[..index.len()].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
            }
            continue;
        }
        for (lane, place) in places.iter().enumerate() {
            let Some(dx) = &mut parts[place.part] else { continue };
            for (dx, dy) in dx[place.channel / LANES * pixels..][..pixels].iter_mut().zip(dy) {
                dx[place.channel % LANES] += dy[lane];
            }
        }
    }
}

/// The gradient of [`channel_conv`](crate::channel_conv)'s input.
pub fn channel_conv_gradient(dy: &[f32], channels: usize, kernel: &[f32], pads: [usize; 2], dx: &mut [f32]) {
    let outputs = channel_conv_outputs(channels, kernel.len(), pads);
    assert!(dy.len() >= outputs && dx.len() >= channels);
    dx.fill(0.0);
    for (c, dy) in dy[..outputs].iter().enumerate() {
        let (from, to) = reach(c, channels, kernel.len(), pads[0]);
        for k in from..to {
            dx[c + k - pads[0]] += kernel[k] * dy;
        }
    }
}

/// Turns `dy`, the gradient of [`softmax_groups`](crate::softmax_groups)' result `y`, into that of its input, in place.
pub fn softmax_groups_gradient(y: &[f32], channels: usize, groups: usize, dy: &mut [f32]) {
    assert!(y.len() >= channels && dy.len() >= channels && groups > 0 && channels.is_multiple_of(groups));
    let each = channels / groups;
    for c in 0..each {
        let places = (c..channels).step_by(each);
        let mean: f32 = places.clone().map(|at| y[at] * dy[at]).sum();
        for at in places {
            dy[at] = y[at] * (dy[at] - mean);
        }
    }
}
