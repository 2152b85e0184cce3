//! Gradients of what moves or mixes channels, and of the layouts.

use crate::{
    channels::{aligned, channel_conv_outputs, reach},
    simd::{LANES, vectors, vectors_mut},
};

/// `dx`, all of it, from `dy`, the gradient of [`gather_channels`](crate::gather_channels)' result: a channel that was
/// taken several times gets the sum.
pub fn gather_channels_gradient(dy: &[f32], index: &[u32], pixels: usize, dx: &mut [f32]) {
    assert_eq!(dy.len(), index.len().div_ceil(LANES) * pixels * LANES);
    dx.fill(0.0);
    let (dy, dx) = (vectors(dy), vectors_mut(dx));
    for (index, dy) in index.chunks(LANES).zip(dy.chunks_exact(pixels)) {
        if let Some(block) = aligned(index) {
            for (dx, dy) in dx[block * pixels..(block + 1) * pixels].iter_mut().zip(dy) {
                dx[..index.len()].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
            }
            continue;
        }
        for (lane, &from) in index.iter().enumerate() {
            let (block, from) = (from as usize / LANES, from as usize % LANES);
            for (dx, dy) in dx[block * pixels..(block + 1) * pixels].iter_mut().zip(dy) {
                dx[from] += dy[lane];
            }
        }
    }
}

/// The gradients of [`concat`](crate::concat)'s parts from `dy`, that of its result; `parts` are (gradient, channels).
pub fn concat_gradient(dy: &[f32], pixels: usize, parts: &mut [(&mut [f32], usize)]) {
    let dy = vectors(dy);
    let mut first = 0;
    for (part, channels) in parts {
        assert_eq!(part.len(), channels.div_ceil(LANES) * pixels * LANES);
        for (block, part) in vectors_mut(part).chunks_exact_mut(pixels).enumerate() {
            let start = first + block * LANES;
            let count = LANES.min(*channels - block * LANES);
            // Sixteen channels of the result are in one block, or at the end of one and the start of the next.
            let (low, shift) = (start / LANES, start % LANES);
            let in_low = count.min(LANES - shift);
            for (pixel, part) in part.iter_mut().enumerate() {
                *part = [0.0; LANES];
                part[..in_low].copy_from_slice(&dy[low * pixels + pixel][shift..shift + in_low]);
                if in_low < count {
                    part[in_low..count].copy_from_slice(&dy[(low + 1) * pixels + pixel][..count - in_low]);
                }
            }
        }
        first += *channels;
    }
    assert_eq!(dy.len(), first.div_ceil(LANES) * pixels);
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
