//! Description of an architecture as a list of layers that name their parameters. It gives the expected tensors, the
//! graph from a state dict, and the graph with seeded weights.

use crate::{Activation, BatchNorm, Conv, Graph, Node, Op, Padding, Pool, Tensor, ValueId};

/// A complete architecture, including the classifier.
#[derive(Debug)]
pub(super) struct ArchitectureSpec {
    layers: Vec<Layer>,
    /// Prefix of the classifier's `.weight` and `.bias`.
    pub(super) classifier: &'static str,
    /// Length of the features.
    pub(super) features: usize,
}

#[derive(Debug)]
struct Layer {
    name: String,
    kind: Kind,
    inputs: Vec<ValueId>,
}

#[derive(Debug)]
enum Kind {
    Conv {
        parameter: String,
        shape: [usize; 4],
        stride: usize,
        group: usize,
        padding: Padding,
    },
    Norm {
        prefix: String,
        channels: usize,
        epsilon: f32,
    },
    /// An operation without parameters.
    Plain(Op),
}

/// An expected tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameter {
    /// The tensor's name in the state dict.
    pub(super) name: String,
    /// The tensor's shape.
    pub(super) shape: Vec<usize>,
}

/// Weights of a layer.
pub(super) enum Wanted<'a> {
    /// The weight of a convolution.
    Conv(&'a Parameter),
    /// `[C]` each: scale, bias, mean, variance.
    Norm(&'a [Parameter; 4]),
}

fn norm_parameters(prefix: &str, channels: usize) -> [Parameter; 4] {
    ["weight", "bias", "running_mean", "running_var"].map(|part| Parameter {
        name: format!("{prefix}.{part}"),
        shape: vec![channels],
    })
}

impl ArchitectureSpec {
    /// Returns all tensors except the classifier's two.
    pub(super) fn parameters(&self) -> Vec<Parameter> {
        let of_layer = |layer: &Layer| match &layer.kind {
            Kind::Conv { parameter, shape, .. } => vec![Parameter {
                name: parameter.clone(),
                shape: shape.to_vec(),
            }],
            Kind::Norm { prefix, channels, .. } => norm_parameters(prefix, *channels).into(),
            Kind::Plain(_) => Vec::new(),
        };
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// Builds the graph. `weights` returns the tensors of each layer: one for a convolution, four for a norm. Its
    /// arguments are the layer's index, and the parameters and inputs of the layer.
    pub(super) fn graph(&self, mut weights: impl FnMut(usize, Wanted<'_>) -> Vec<Tensor>) -> Graph {
        let nodes = self.layers.iter().enumerate().map(|(index, layer)| {
            let op = match &layer.kind {
                Kind::Conv {
                    parameter,
                    shape,
                    stride,
                    group,
                    padding,
                } => {
                    let parameter = Parameter {
                        name: parameter.clone(),
                        shape: shape.to_vec(),
                    };
                    let weight = weights(index, Wanted::Conv(&parameter)).swap_remove(0);
                    Op::Conv(Conv {
                        weight: weight.into(),
                        bias: None,
                        stride: [*stride; 2],
                        dilation: [1, 1],
                        group: *group,
                        padding: *padding,
                    })
                }
                Kind::Norm {
                    prefix,
                    channels,
                    epsilon,
                } => {
                    let mut parts = weights(index, Wanted::Norm(&norm_parameters(prefix, *channels))).into_iter();
                    let mut part = || parts.next().expect("a norm gets four tensors");
                    let (scale, bias, mean, variance) = (part(), part(), part(), part());
                    Op::BatchNorm(BatchNorm {
                        scale,
                        bias,
                        mean,
                        variance,
                        epsilon: *epsilon,
                    })
                }
                Kind::Plain(op) => op.clone(),
            };
            Node {
                name: layer.name.clone(),
                op,
                inputs: layer.inputs.clone(),
            }
        });
        Graph {
            input_channels: 3,
            nodes: nodes.collect(),
            features: ValueId::of_node(self.layers.len() - 1),
        }
    }

    /// Returns the settings of the layers with weights: the name of the module, and each setting under its name in
    /// PyTorch's modules.
    pub(super) fn settings(&self) -> Vec<(String, Vec<(&'static str, f64)>)> {
        let of_layer = |layer: &Layer| match &layer.kind {
            Kind::Conv {
                parameter,
                stride,
                padding,
                ..
            } => {
                let mut settings = vec![("stride", *stride as f64), ("dilation", 1.0)];
                // SAME padding is implemented by other means and does not appear in the module's settings.
                if let Padding::Explicit([side, ..]) = padding {
                    settings.push(("padding", *side as f64));
                }
                Some((parameter.trim_end_matches(".weight").to_owned(), settings))
            }
            Kind::Norm { prefix, epsilon, .. } => Some((prefix.clone(), vec![("eps", f64::from(*epsilon))])),
            Kind::Plain(_) => None,
        };
        self.layers.iter().filter_map(of_layer).collect()
    }

    /// Returns the values that layer `index` reads.
    pub(super) fn inputs(&self, index: usize) -> &[ValueId] {
        &self.layers[index].inputs
    }

    /// Returns the operation of layer `index`, if it has no parameters.
    pub(super) fn plain(&self, index: usize) -> Option<&Op> {
        match &self.layers[index].kind {
            Kind::Plain(op) => Some(op),
            _ => None,
        }
    }

    /// Returns whether `value` is the output of a norm.
    pub(super) fn is_norm(&self, value: ValueId) -> bool {
        value
            .producer()
            .is_some_and(|index| matches!(self.layers[index].kind, Kind::Norm { .. }))
    }

    /// Returns the number of layers.
    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }
}

/// Builds an [`ArchitectureSpec`], layer by layer.
#[derive(Debug)]
pub(super) struct SpecBuilder {
    layers: Vec<Layer>,
    epsilon: f32,
    same_padding: bool,
}

/// A convolution to add.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvSpec {
    /// Numbers of input and output channels.
    pub(super) channels: [usize; 2],
    /// Side of the kernel.
    pub(super) kernel: usize,
    /// Step of the kernel.
    pub(super) stride: usize,
    /// Number of channel groups; equal to the input channels for a depthwise convolution.
    pub(super) groups: usize,
}

impl SpecBuilder {
    /// Creates a builder. All norms use `epsilon`. Convolutions pad by half their kernel, or like TensorFlow's SAME
    /// padding if `same_padding` is set.
    pub(super) fn new(epsilon: f32, same_padding: bool) -> Self {
        Self {
            layers: Vec::new(),
            epsilon,
            same_padding,
        }
    }

    fn push(&mut self, name: impl Into<String>, kind: Kind, inputs: Vec<ValueId>) -> ValueId {
        self.layers.push(Layer {
            name: name.into(),
            kind,
            inputs,
        });
        ValueId::of_node(self.layers.len() - 1)
    }

    /// Adds an operation without parameters.
    pub(super) fn plain(&mut self, name: impl Into<String>, op: Op, inputs: Vec<ValueId>) -> ValueId {
        self.push(name, Kind::Plain(op), inputs)
    }

    /// Adds a convolution named `name` with the tensor `<conv>.weight`, and its norm `<name>.bn` with the tensors
    /// `<norm>.*`.
    pub(super) fn conv_norm(
        &mut self,
        name: &str,
        [conv, norm]: [String; 2],
        spec: ConvSpec,
        input: ValueId,
    ) -> ValueId {
        let ConvSpec {
            channels: [from, to],
            kernel,
            stride,
            groups,
        } = spec;
        let padding = if self.same_padding {
            Padding::SameUpper
        } else {
            Padding::Explicit([kernel / 2; 4])
        };
        let kind = Kind::Conv {
            parameter: format!("{conv}.weight"),
            shape: [to, from / groups, kernel, kernel],
            stride,
            group: groups,
            padding,
        };
        let value = self.push(name, kind, vec![input]);
        let kind = Kind::Norm {
            prefix: norm,
            channels: to,
            epsilon: self.epsilon,
        };
        self.push(format!("{name}.bn"), kind, vec![value])
    }

    /// Adds an activation called `<name>.act`.
    pub(super) fn activation(&mut self, name: &str, activation: Activation, input: ValueId) -> ValueId {
        self.plain(format!("{name}.act"), Op::Activation(activation), vec![input])
    }

    /// Adds a 3×3 max-pool with stride 2 and padding 1.
    pub(super) fn max_pool(&mut self, name: &str, input: ValueId) -> ValueId {
        let pool = Pool {
            kernel: [3, 3],
            stride: [2, 2],
            padding: Padding::Explicit([1; 4]),
            ceil: false,
            count_include_pad: false,
        };
        self.plain(name, Op::MaxPool(pool), vec![input])
    }

    /// Adds the global average pooling, and returns the complete architecture.
    pub(super) fn finish(mut self, value: ValueId, features: usize, classifier: &'static str) -> ArchitectureSpec {
        let pooled = self.plain("pool", Op::GlobalAveragePool, vec![value]);
        self.plain("flatten", Op::Flatten, vec![pooled]);
        ArchitectureSpec {
            layers: self.layers,
            classifier,
            features,
        }
    }
}
