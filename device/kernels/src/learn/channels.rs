//! Gradients of operations across channels.

use crate::channels::{channel_conv_outputs, reach};

/// Computes the gradient of [`channel_conv`](crate::channel_conv)'s input.
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

/// Replaces `dy`, the gradient of [`softmax_groups`](crate::softmax_groups)' result `y`, by the gradient of its input.
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
