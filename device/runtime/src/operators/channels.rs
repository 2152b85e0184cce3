//! Operators along the channels: gather, 1-D convolution, and softmax over groups.

use clr_kernels::{
    ChannelMap, channel_conv, channel_conv_gradient, channel_conv_outputs, softmax_groups, softmax_groups_gradient,
};
use clr_onnx::Shape;

use super::{Backward, Context, Operator, Reads};

/// A selection of the inputs' channels in any order.
#[derive(Debug)]
pub(super) struct Gather(ChannelMap);

impl Gather {
    pub(super) fn new(index: &[u32], inputs: &[Shape], pixels: usize) -> Self {
        let channels: Vec<usize> = inputs.iter().map(|shape| shape.channels()).collect();
        Self(ChannelMap::new(&channels, index, pixels))
    }
}

impl Operator for Gather {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        self.0.run(inputs, out);
    }

    fn backward(&self, step: Backward<'_>) {
        let mut dx: Vec<Option<&mut [f32]>> = step.dx.iter_mut().map(Option::as_deref_mut).collect();
        self.0.gradient(step.dy, &mut dx);
    }
}

/// 1-D convolution along the channels of a vector, with one kernel for all positions (efficient channel attention).
#[derive(Debug)]
pub(super) struct ChannelConv {
    kernel: Vec<f32>,
    bias: f32,
    pads: [usize; 2],
    channels: usize,
}

impl ChannelConv {
    pub(super) fn new(kernel: &[f32], bias: f32, pads: [usize; 2], channels: usize) -> Self {
        Self {
            kernel: kernel.to_vec(),
            bias,
            pads,
            channels,
        }
    }
}

impl Operator for ChannelConv {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let outputs = channel_conv_outputs(self.channels, self.kernel.len(), self.pads);
        channel_conv(inputs[0], self.channels, &self.kernel, self.bias, self.pads, out);
        out[outputs..].fill(0.0);
    }

    fn backward(&self, step: Backward<'_>) {
        if let Some(Some(dx)) = step.dx.first_mut() {
            channel_conv_gradient(step.dy, self.channels, &self.kernel, self.pads, dx);
            dx[self.channels..].fill(0.0);
        }
    }
}

/// Softmax over the groups of a vector `[G · C]`, viewed as `[G, C]`.
#[derive(Debug)]
pub(super) struct Softmax {
    groups: usize,
    channels: usize,
    context: Context,
}

impl Softmax {
    pub(super) fn new(groups: usize, channels: usize, context: Context) -> Self {
        Self {
            groups,
            channels,
            context,
        }
    }
}

impl Operator for Softmax {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        out.copy_from_slice(inputs[0]);
        softmax_groups(self.context.isa, out, self.channels, self.groups);
    }

    fn reads(&self) -> Reads {
        Reads::OUTPUT
    }

    fn backward(&self, mut step: Backward<'_>) {
        softmax_groups_gradient(step.output, self.channels, self.groups, step.dy);
        step.pass_on();
    }
}
