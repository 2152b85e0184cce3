//! Normalisations whose statistics come from the image itself.

use clr_kernels::{
    GroupNorm, LayerNorm, ResponseNorm, block_channels, global_response_norm, global_response_norm_gradient,
    group_norm, group_norm_gradient, layer_norm, layer_norm_gradient,
};

use super::{Backward, Context, Operator, Reads};

/// Scale and bias in blocks, and ε.
#[derive(Debug)]
struct Affine {
    channels: usize,
    scale: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Affine {
    fn new(scale: &[f32], bias: &[f32], epsilon: f32) -> Self {
        Self {
            channels: scale.len(),
            scale: block_channels(scale, 0.0),
            bias: block_channels(bias, 0.0),
            epsilon,
        }
    }
}

/// Over the channels of each pixel (ONNX `LayerNormalization`).
#[derive(Debug)]
pub(super) struct Layer {
    affine: Affine,
    context: Context,
}

impl Layer {
    pub(super) fn new(scale: &[f32], bias: &[f32], epsilon: f32, context: Context) -> Self {
        let affine = Affine::new(scale, bias, epsilon);
        Self { affine, context }
    }

    fn norm(&self) -> LayerNorm<'_> {
        let Affine {
            channels,
            scale,
            bias,
            epsilon,
        } = &self.affine;
        LayerNorm {
            channels: *channels,
            scale,
            bias,
            epsilon: *epsilon,
        }
    }
}

impl Operator for Layer {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        layer_norm(self.context.level, &self.norm(), inputs[0], out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        layer_norm_gradient(self.context.level, &self.norm(), step.inputs[0], step.dy);
        step.pass_on();
    }
}

/// Over the pixels and the channels of each group (ONNX `GroupNormalization`).
#[derive(Debug)]
pub(super) struct Group {
    groups: usize,
    affine: Affine,
    plane: usize,
    context: Context,
}

impl Group {
    pub(super) fn new(
        groups: usize,
        scale: &[f32],
        bias: &[f32],
        epsilon: f32,
        plane: usize,
        context: Context,
    ) -> Self {
        Self {
            groups,
            affine: Affine::new(scale, bias, epsilon),
            plane,
            context,
        }
    }

    fn norm(&self) -> GroupNorm<'_> {
        let Affine {
            channels,
            scale,
            bias,
            epsilon,
        } = &self.affine;
        GroupNorm {
            channels: *channels,
            groups: self.groups,
            scale,
            bias,
            epsilon: *epsilon,
        }
    }
}

impl Operator for Group {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        group_norm(self.context.level, &self.norm(), inputs[0], self.plane, out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        group_norm_gradient(self.context.level, &self.norm(), step.inputs[0], self.plane, step.dy);
        step.pass_on();
    }
}

/// Global response normalisation (Woo et al. 2023).
#[derive(Debug)]
pub(super) struct Response {
    affine: Affine,
    plane: usize,
    context: Context,
}

impl Response {
    pub(super) fn new(scale: &[f32], bias: &[f32], epsilon: f32, plane: usize, context: Context) -> Self {
        Self {
            affine: Affine::new(scale, bias, epsilon),
            plane,
            context,
        }
    }

    fn norm(&self) -> ResponseNorm<'_> {
        let Affine {
            channels,
            scale,
            bias,
            epsilon,
        } = &self.affine;
        ResponseNorm {
            channels: *channels,
            scale,
            bias,
            epsilon: *epsilon,
        }
    }
}

impl Operator for Response {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        global_response_norm(self.context.level, &self.norm(), inputs[0], self.plane, out);
    }

    fn reads(&self) -> Reads {
        Reads::INPUTS
    }

    fn backward(&self, mut step: Backward<'_>) {
        global_response_norm_gradient(self.context.level, &self.norm(), step.inputs[0], self.plane, step.dy);
        step.pass_on();
    }
}
