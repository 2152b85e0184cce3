//! Normalisations whose statistics come from the image itself.

use clr_kernels::{
    GroupNorm, LayerNorm, ResponseNorm, block_channels, global_response_norm, global_response_norm_gradient,
    group_norm, group_norm_gradient, layer_norm, layer_norm_gradient,
};

use super::{Backward, Context, Operator, Reads};

/// The statistics of a normalisation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Normalises over the channels of each pixel (ONNX `LayerNormalization`).
    Layer,
    /// Over the pixels and the channels of each group, with this number of groups (ONNX `GroupNormalization`).
    Group(usize),
    /// Global response normalisation (Woo et al. 2023).
    Response,
}

/// A normalisation with its scale and bias in blocks.
#[derive(Debug)]
pub(super) struct Normalisation {
    kind: Kind,
    channels: usize,
    scale: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    plane: usize,
    context: Context,
}

impl Normalisation {
    /// Creates it from `scale` and `bias` `[C]`, for planes of `plane` values.
    pub(super) fn new(kind: Kind, scale: &[f32], bias: &[f32], epsilon: f32, plane: usize, context: Context) -> Self {
        Self {
            kind,
            channels: scale.len(),
            scale: block_channels(scale, 0.0),
            bias: block_channels(bias, 0.0),
            epsilon,
            plane,
            context,
        }
    }

    fn layer(&self) -> LayerNorm<'_> {
        LayerNorm {
            channels: self.channels,
            scale: &self.scale,
            bias: &self.bias,
            epsilon: self.epsilon,
        }
    }

    fn group(&self, groups: usize) -> GroupNorm<'_> {
        GroupNorm {
            channels: self.channels,
            groups,
            scale: &self.scale,
            bias: &self.bias,
            epsilon: self.epsilon,
        }
    }

    fn response(&self) -> ResponseNorm<'_> {
        ResponseNorm {
            channels: self.channels,
            scale: &self.scale,
            bias: &self.bias,
            epsilon: self.epsilon,
        }
    }
}

impl Operator for Normalisation {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let (isa, plane, x) = (self.context.isa, self.plane, inputs[0]);
        match self.kind {
            Kind::Layer => layer_norm(isa, &self.layer(), x, out),
            Kind::Group(groups) => group_norm(isa, &self.group(groups), x, plane, out),
            Kind::Response => global_response_norm(isa, &self.response(), x, plane, out),
        }
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        let (isa, plane, x) = (self.context.isa, self.plane, step.inputs[0]);
        match self.kind {
            Kind::Layer => layer_norm_gradient(isa, &self.layer(), x, step.dy),
            Kind::Group(groups) => group_norm_gradient(isa, &self.group(groups), x, plane, step.dy),
            Kind::Response => global_response_norm_gradient(isa, &self.response(), x, plane, step.dy),
        }
        step.pass_on();
    }
}
