//! Each operation of the canonical graph as ONNX nodes of opset 17.

use super::builder::{Builder, float, int, ints, string};
use crate::{
    Shape, Tensor,
    graph::{Activation, Conv, Node, Op, Padding, Pool},
    proto::AttributeProto,
};

impl Builder {
    /// Writes `node`, reading `inputs`, producing `output`. `shape` is what it produces.
    pub(crate) fn graph_node(&mut self, node: &Node, inputs: &[&str], output: &str, shape: Shape) {
        let name = node.name.as_str();
        match &node.op {
            Op::Conv(conv) => {
                let bias = conv.bias.as_ref().map(Tensor::data);
                self.convolution(name, conv, conv.weight.data(), bias, inputs[0], output);
            }
            Op::BatchNorm(norm) => {
                let vectors = [
                    ("scale", &norm.scale),
                    ("bias", &norm.bias),
                    ("mean", &norm.mean),
                    ("variance", &norm.variance),
                ];
                let vectors = vectors.map(|(part, tensor)| self.tensor(&format!("{name}.{part}"), tensor));
                let [scale, bias, mean, variance] = vectors.each_ref().map(String::as_str);
                let read = [inputs[0], scale, bias, mean, variance];
                self.node(
                    name,
                    "BatchNormalization",
                    &read,
                    output,
                    vec![float("epsilon", norm.epsilon)],
                );
            }
            Op::Activation(activation) => self.activation(name, *activation, inputs[0], output),
            Op::PRelu { slope } => {
                let slope = self.constant(
                    &format!("{name}.slope"),
                    &per_channel(slope.data().len(), shape),
                    slope.data(),
                );
                self.node(name, "PRelu", &[inputs[0], &slope], output, vec![]);
            }
            Op::ChannelAffine { scale, bias } => {
                let dims = per_channel(scale.data().len(), shape);
                let scale = self.constant(&format!("{name}.scale"), &dims, scale.data());
                let bias = self.constant(&format!("{name}.bias"), &dims, bias.data());
                let (helper, scaled) = (
                    self.helper(&format!("{name}.mul")),
                    self.value(&format!("{name}.scaled")),
                );
                self.node(&helper, "Mul", &[inputs[0], &scale], &scaled, vec![]);
                self.node(name, "Add", &[&scaled, &bias], output, vec![]);
            }
            Op::Add => self.node(name, "Add", inputs, output, vec![]),
            Op::Mul => self.node(name, "Mul", inputs, output, vec![]),
            Op::Concat => self.node(name, "Concat", inputs, output, vec![int("axis", 1)]),
            Op::MaxPool(pool) => self.node(name, "MaxPool", inputs, output, window(pool)),
            Op::AveragePool(pool) => {
                let mut attributes = window(pool);
                attributes.push(int("count_include_pad", pool.count_include_pad.into()));
                self.node(name, "AveragePool", inputs, output, attributes);
            }
            Op::GlobalAveragePool => self.node(name, "GlobalAveragePool", inputs, output, vec![]),
            Op::Pad {
                pads: [top, left, bottom, right],
                value,
            } => {
                let pads = [0, 0, *top, *left, 0, 0, *bottom, *right].map(|pad| pad as i64);
                let pads = self.integers(&format!("{name}.pads"), &pads);
                let value = self.constant(&format!("{name}.value"), &[], &[*value]);
                self.node(
                    name,
                    "Pad",
                    &[inputs[0], &pads, &value],
                    output,
                    vec![string("mode", "constant")],
                );
            }
            Op::Flatten => self.node(name, "Flatten", inputs, output, vec![int("axis", 1)]),
            Op::Dense { weight, bias } => {
                self.dense(name, (weight.shape(), weight.data()), bias.data(), inputs[0], output);
            }
            Op::Unflatten => {
                let axes = self.integers(&format!("{name}.axes"), &[2, 3]);
                self.node(name, "Unsqueeze", &[inputs[0], &axes], output, vec![]);
            }
        }
    }

    /// A convolution like `conv` with these weights and this bias.
    pub(crate) fn convolution(
        &mut self,
        name: &str,
        conv: &Conv,
        weight: &[f32],
        bias: Option<&[f32]>,
        input: &str,
        output: &str,
    ) {
        let weight = self.constant(&format!("{name}.weight"), conv.weight.shape(), weight);
        let bias = bias.map(|bias| self.constant(&format!("{name}.bias"), &[bias.len()], bias));
        let mut attributes = vec![
            ints("dilations", &conv.dilation),
            int("group", conv.group),
            ints("kernel_shape", &conv.kernel()),
            ints("strides", &conv.stride),
        ];
        attributes.push(padding(conv.padding));
        let mut inputs = vec![input, &weight];
        inputs.extend(bias.as_deref());
        self.node(name, "Conv", &inputs, output, attributes);
    }

    /// `output = input · weightᵀ + bias`.
    pub(crate) fn dense(
        &mut self,
        name: &str,
        (shape, weight): (&[usize], &[f32]),
        bias: &[f32],
        input: &str,
        output: &str,
    ) {
        let weight = self.constant(&format!("{name}.weight"), shape, weight);
        let bias = self.constant(&format!("{name}.bias"), &[bias.len()], bias);
        self.node(name, "Gemm", &[input, &weight, &bias], output, vec![int("transB", 1)]);
    }

    fn activation(&mut self, name: &str, activation: Activation, input: &str, output: &str) {
        match activation {
            Activation::Relu | Activation::Sigmoid | Activation::HardSwish => {
                self.node(name, activation.name(), &[input], output, vec![]);
            }
            Activation::Clip { min, max } => {
                let mut bound = |part: &str, value: f32| {
                    if value.is_finite() {
                        self.constant(&format!("{name}.{part}"), &[], &[value])
                    } else {
                        String::new()
                    }
                };
                let (min, max) = (bound("min", min), bound("max", max));
                let mut inputs = vec![input, &min, &max];
                while inputs.last() == Some(&"") {
                    inputs.pop();
                }
                self.node(name, "Clip", &inputs, output, vec![]);
            }
            Activation::LeakyRelu { alpha } => {
                self.node(name, "LeakyRelu", &[input], output, vec![float("alpha", alpha)]);
            }
            Activation::HardSigmoid { alpha, beta } => {
                self.node(
                    name,
                    "HardSigmoid",
                    &[input],
                    output,
                    vec![float("alpha", alpha), float("beta", beta)],
                );
            }
            Activation::Silu => {
                let (helper, gate) = (
                    self.helper(&format!("{name}.sigmoid")),
                    self.value(&format!("{name}.gate")),
                );
                self.node(&helper, "Sigmoid", &[input], &gate, vec![]);
                self.node(name, "Mul", &[input, &gate], output, vec![]);
            }
        }
    }
}

/// `[1, C, 1, 1]` for a map, `[1, C]` for a vector; a slope has no batch but the leading 1 is allowed all the same.
fn per_channel(channels: usize, shape: Shape) -> Vec<usize> {
    match shape {
        Shape::Map(_) => vec![1, channels, 1, 1],
        Shape::Vector(_) => vec![1, channels],
    }
}

fn padding(padding: Padding) -> AttributeProto {
    match padding {
        Padding::Explicit(pads) => ints("pads", &pads),
        Padding::SameUpper => string("auto_pad", "SAME_UPPER"),
        Padding::SameLower => string("auto_pad", "SAME_LOWER"),
    }
}

fn window(pool: &Pool) -> Vec<AttributeProto> {
    vec![
        int("ceil_mode", pool.ceil.into()),
        ints("kernel_shape", &pool.kernel),
        padding(pool.padding),
        ints("strides", &pool.stride),
    ]
}
