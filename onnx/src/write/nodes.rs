//! Conversion of each operation of the canonical graph to ONNX nodes of opset 17, or of a later opset if the graph
//! needs it.

use super::builder::{Builder, float, int, ints, string};
use crate::{
    ConvWeight, Quantisation, Shape, Tensor,
    graph::{Activation, Conv, Node, Op, PadMode, Padding, Pool},
    proto::AttributeProto,
    resize::{Coordinates, Resize, ResizeMode, ResizeTarget, Rounding},
};

impl Builder {
    /// Writes `node` with the given inputs and output. `shape` is the output's shape, and `grid` that on which the first
    /// input lies.
    pub(crate) fn graph_node(
        &mut self,
        node: &Node,
        inputs: &[&str],
        output: &str,
        shape: Shape,
        grid: Option<Quantisation>,
    ) {
        let name = node.name.as_str();
        match &node.op {
            Op::Conv(conv) => {
                let bias = conv.bias.as_ref().map(Tensor::data);
                self.convolution(name, conv, &conv.weight, bias, (inputs[0], grid), output);
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
            Op::Pad { pads, mode } => self.pad(name, *pads, *mode, inputs[0], output),
            Op::Flatten => self.node(name, "Flatten", inputs, output, vec![int("axis", 1)]),
            Op::Dense { weight, bias } => {
                self.dense(name, (weight.shape(), weight.data()), bias.data(), inputs[0], output);
            }
            Op::Unflatten => {
                let axes = self.integers(&format!("{name}.axes"), &[2, 3]);
                self.node(name, "Unsqueeze", &[inputs[0], &axes], output, vec![]);
            }
            Op::GatherChannels { index } => self.gather_channels(name, index, inputs[0], output),
            Op::Crop { start, size, step } => self.crop(name, [*start, *size, *step], inputs[0], output),
            Op::LayerNorm { scale, bias, epsilon } => {
                self.layer_norm(name, (scale, bias, *epsilon), shape, inputs[0], output);
            }
            Op::GroupNorm {
                groups,
                scale,
                bias,
                epsilon,
            } => self.group_norm(name, *groups, (scale, bias, *epsilon), shape, inputs[0], output),
            Op::GlobalResponseNorm { scale, bias, epsilon } => {
                self.global_response_norm(name, (scale, bias, *epsilon), inputs[0], output);
            }
            Op::ChannelConv { kernel, bias, pads } => {
                self.channel_conv(name, kernel, *bias, *pads, shape, inputs[0], output);
            }
            Op::Softmax { groups } => self.softmax(name, *groups, shape, inputs[0], output),
            Op::FakeQuantise(grid) => self.fake_quantise(name, *grid, inputs[0], output),
            Op::Resize(resize) => self.resize(name, resize, inputs[0], output),
            Op::Opaque(step) => self.step(name, step, inputs, output),
        }
    }

    fn pad(&mut self, name: &str, [top, left, bottom, right]: [usize; 4], mode: PadMode, input: &str, output: &str) {
        let pads = [0, 0, top, left, 0, 0, bottom, right].map(|pad| pad as i64);
        let pads = self.integers(&format!("{name}.pads"), &pads);
        let mut inputs = vec![input, &pads];
        let value;
        let mode = match mode {
            PadMode::Constant(constant) => {
                value = self.constant(&format!("{name}.value"), &[], &[constant]);
                inputs.push(&value);
                "constant"
            }
            PadMode::Reflect => "reflect",
            PadMode::Edge => "edge",
            PadMode::Wrap => "wrap",
        };
        self.node(name, "Pad", &inputs, output, vec![string("mode", mode)]);
    }

    fn gather_channels(&mut self, name: &str, index: &[u32], input: &str, output: &str) {
        let indices: Vec<i64> = index.iter().map(|&channel| channel.into()).collect();
        let first = indices.first().copied().unwrap_or(0);
        let step = indices.get(1).map_or(1, |second| second - first);
        let regular = step > 0
            && indices
                .iter()
                .zip(0..)
                .all(|(&channel, place)| channel == first + place * step);
        if regular {
            let end = indices.last().map_or(first, |last| last + 1);
            self.slice(name, [&[first], &[end], &[1], &[step]], input, output);
        } else {
            let indices = self.integers(&format!("{name}.index"), &indices);
            self.node(name, "Gather", &[input, &indices], output, vec![int("axis", 1)]);
        }
    }

    fn crop(&mut self, name: &str, [start, size, step]: [[usize; 2]; 3], input: &str, output: &str) {
        let end = [0, 1].map(|axis| start[axis] + (size[axis] - 1) * step[axis] + 1);
        let [start, end, step] = [start, end, step].map(|pair| pair.map(|value| value as i64));
        self.slice(name, [&start, &end, &[2, 3], &step], input, output);
    }

    /// Adds a Slice with these starts, ends, axes and steps.
    fn slice(&mut self, name: &str, parts: [&[i64]; 4], input: &str, output: &str) {
        let [starts, ends, axes, steps] = parts;
        let named = [("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps)];
        let [starts, ends, axes, steps] = named.map(|(part, values)| self.integers(&format!("{name}.{part}"), values));
        self.node(name, "Slice", &[input, &starts, &ends, &axes, &steps], output, vec![]);
    }

    fn resize(&mut self, name: &str, resize: &Resize, input: &str, output: &str) {
        let coordinates = match resize.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
            Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
        };
        let mut attributes = vec![string("coordinate_transformation_mode", coordinates)];
        match resize.mode {
            ResizeMode::Bilinear => attributes.push(string("mode", "linear")),
            ResizeMode::Nearest(rounding) => {
                attributes.push(string("mode", "nearest"));
                attributes.push(string(
                    "nearest_mode",
                    match rounding {
                        Rounding::PreferFloor => "round_prefer_floor",
                        Rounding::PreferCeil => "round_prefer_ceil",
                        Rounding::Floor => "floor",
                        Rounding::Ceil => "ceil",
                    },
                ));
            }
        }
        match resize.target {
            ResizeTarget::Scale([rows, columns]) => {
                let scales = self.constant(&format!("{name}.scales"), &[4], &[1.0, 1.0, rows, columns]);
                self.node(name, "Resize", &[input, "", &scales], output, attributes);
            }
            ResizeTarget::Size(size) => {
                // The batch is open, so its size is read from the input at run time.
                let size = self.integers(&format!("{name}.size"), &size.map(|side| side as i64));
                let front = [("from", 0), ("to", 2)].map(|(part, at)| self.integers(&format!("{name}.{part}"), &[at]));
                let shape = self.helper_node(name, "shape", "Shape", &[input], vec![]);
                let front = self.helper_node(name, "front", "Slice", &[&shape, &front[0], &front[1]], vec![]);
                let sizes = self.helper_node(name, "sizes", "Concat", &[&front, &size], vec![int("axis", 0)]);
                self.node(name, "Resize", &[input, "", "", &sizes], output, attributes);
            }
        }
    }

    /// Adds a node named after `name` and `part`. Returns the name of its output.
    pub(super) fn helper_node(
        &mut self,
        name: &str,
        part: &str,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let wanted = format!("{name}.{part}");
        let (node, value) = (self.helper(&wanted), self.value(&wanted));
        self.node(&node, op, inputs, &value, attributes);
        value
    }

    /// Adds a convolution with the attributes of `conv` and with these weights and this bias. `input` is its input and
    /// the grid on which this lies.
    pub(crate) fn convolution(
        &mut self,
        name: &str,
        conv: &Conv,
        weight: &ConvWeight,
        bias: Option<&[f32]>,
        (input, grid): (&str, Option<Quantisation>),
        output: &str,
    ) {
        let (weight, bias) = self.convolution_weights(name, weight, bias, grid);
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

    /// Adds `output = input · weightᵀ + bias`.
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
            Activation::Relu | Activation::Sigmoid | Activation::HardSwish | Activation::Tanh => {
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
            Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => {
                self.node(name, activation.name(), &[input], output, vec![float("alpha", alpha)]);
            }
            Activation::Gelu => {
                let [root, one, half] = [("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]
                    .map(|(part, value)| self.constant(&format!("{name}.{part}"), &[], &[value]));
                let scaled = self.helper_node(name, "div", "Div", &[input, &root], vec![]);
                let erf = self.helper_node(name, "erf", "Erf", &[&scaled], vec![]);
                let gate = self.helper_node(name, "add", "Add", &[&erf, &one], vec![]);
                let product = self.helper_node(name, "mul", "Mul", &[input, &gate], vec![]);
                self.node(name, "Mul", &[&product, &half], output, vec![]);
            }
            Activation::GeluTanh => {
                let constants = [
                    ("three", 3.0),
                    ("cubic", 0.044_715),
                    (
                        "root",
                        std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2,
                    ),
                    ("one", 1.0),
                    ("half", 0.5),
                ];
                let [three, cubic, root, one, half] =
                    constants.map(|(part, value)| self.constant(&format!("{name}.{part}"), &[], &[value]));
                let cube = self.helper_node(name, "pow", "Pow", &[input, &three], vec![]);
                let cube = self.helper_node(name, "cube", "Mul", &[&cube, &cubic], vec![]);
                let sum = self.helper_node(name, "sum", "Add", &[input, &cube], vec![]);
                let scaled = self.helper_node(name, "scaled", "Mul", &[&sum, &root], vec![]);
                let tanh = self.helper_node(name, "tanh", "Tanh", &[&scaled], vec![]);
                let gate = self.helper_node(name, "add", "Add", &[&tanh, &one], vec![]);
                let product = self.helper_node(name, "mul", "Mul", &[input, &gate], vec![]);
                self.node(name, "Mul", &[&product, &half], output, vec![]);
            }
            Activation::Mish => {
                let soft = self.helper_node(name, "softplus", "Softplus", &[input], vec![]);
                let gate = self.helper_node(name, "tanh", "Tanh", &[&soft], vec![]);
                self.node(name, "Mul", &[input, &gate], output, vec![]);
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

/// Returns `[1, C, 1, 1]` for a map and `[1, C]` for a vector. A slope has no batch, but a leading 1 is allowed for it
/// too.
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
