//! Graph structure of a backbone, without weights.

use candle_core::Device;
use clr_onnx::{Activation, Backbone, Op, Pool};
use clr_training::ops::ConvOptions;

use super::{Norms, Weights};
use crate::error::{ContinualError, Result};

/// A convolution of the network.
#[derive(Clone, Debug)]
pub struct ConvLayer {
    /// Name of its node.
    pub name: String,
    /// `[O, I / groups, kh, kw]`.
    pub shape: [usize; 4],
    /// Stride, dilation, groups and padding.
    pub options: ConvOptions,
    /// Index of the batch norm that follows it, if one does.
    pub norm: Option<usize>,
}

/// An operation. The numbers are indices of weights or norms.
pub(super) enum Kind {
    Conv(usize),
    Dense(usize),
    Norm { norm: usize, epsilon: f32 },
    Affine(usize),
    Activation(Activation),
    PRelu(usize),
    Add,
    Mul,
    Gather(Option<Vec<u32>>),
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    Flatten,
    Unflatten,
}

/// A step of the network: node `i` computes value `i + 1`.
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Indices of values.
    pub(super) inputs: Vec<usize>,
    /// Values that no later step reads.
    pub(super) release: Vec<usize>,
}

/// The steps of a network and the layers that have values.
pub struct Structure {
    pub(super) steps: Vec<Step>,
    /// Index of the features' value.
    pub(super) features: usize,
    feature_count: usize,
    convs: Vec<ConvLayer>,
    /// Output pixels of each convolution at the backbone's size.
    conv_pixels: Vec<usize>,
}

impl Structure {
    /// Reads a backbone, with its weights on `device`.
    ///
    /// # Errors
    /// [`ContinualError::Operator`] if the weights of an operator cannot be trained.
    pub fn new(backbone: &Backbone, device: &Device) -> Result<(Self, Weights, Norms)> {
        let graph = backbone.graph();
        let (mut weights, mut norms) = (Weights::default(), Norms::default());
        let mut convs: Vec<ConvLayer> = Vec::new();
        let mut conv_of_value = vec![None; graph.nodes.len() + 1];
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (index, node) in graph.nodes.iter().enumerate() {
            let kind = match &node.op {
                Op::Conv(conv) => {
                    let &[outputs, inputs, rows, columns] = conv.weight.shape() else {
                        return Err(unsupported(&node.name, &node.op));
                    };
                    conv_of_value[index + 1] = Some(convs.len());
                    convs.push(ConvLayer {
                        name: node.name.clone(),
                        shape: [outputs, inputs, rows, columns],
                        options: ConvOptions::from(conv),
                        norm: None,
                    });
                    weights.push_conv(conv, device)?;
                    Kind::Conv(convs.len() - 1)
                }
                Op::BatchNorm(norm) => {
                    if let Some(conv) = conv_of_value[node.inputs[0].0] {
                        convs[conv].norm = Some(norms.len());
                    }
                    norms.push(norm, device)?;
                    Kind::Norm {
                        norm: norms.len() - 1,
                        epsilon: norm.epsilon,
                    }
                }
                Op::Dense { weight, bias } => Kind::Dense(weights.push_dense([weight, bias], device)?),
                Op::ChannelAffine { scale, bias } => Kind::Affine(weights.push_vectors(&[scale, bias], device)?),
                Op::PRelu { slope } => Kind::PRelu(weights.push_vectors(&[slope], device)?),
                Op::Activation(activation) => Kind::Activation(*activation),
                Op::Add => Kind::Add,
                Op::Mul => Kind::Mul,
                Op::Concat => Kind::Gather(None),
                Op::GatherChannels { index } => Kind::Gather(Some(index.to_vec())),
                Op::MaxPool(pool) => Kind::MaxPool(*pool),
                Op::AveragePool(pool) => Kind::AveragePool(*pool),
                Op::GlobalAveragePool => Kind::GlobalAveragePool,
                Op::Flatten => Kind::Flatten,
                Op::Unflatten => Kind::Unflatten,
                op => return Err(unsupported(&node.name, op)),
            };
            steps.push(Step {
                kind,
                inputs: node.inputs.iter().map(|input| input.0).collect(),
                release: Vec::new(),
            });
        }
        let preprocessing = backbone.preprocessing();
        let shapes = backbone.value_shapes(preprocessing.height as usize, preprocessing.width as usize)?;
        let conv_values = (1..=graph.nodes.len()).filter(|&value| conv_of_value[value].is_some());
        let conv_pixels = conv_values.map(|value| shapes[value].spatial().map_or(1, |[rows, columns]| rows * columns));
        let conv_pixels = conv_pixels.collect();
        let features = graph.features.0;
        for value in 0..=steps.len() {
            let last = steps.iter().rposition(|step| step.inputs.contains(&value));
            if let Some(last) = last.filter(|_| value != features) {
                steps[last].release.push(value);
            }
        }
        let structure = Self {
            steps,
            features,
            feature_count: backbone.feature_count(),
            convs,
            conv_pixels,
        };
        Ok((structure, weights, norms))
    }

    /// Returns the convolutions, in the graph's order.
    pub fn convs(&self) -> &[ConvLayer] {
        &self.convs
    }

    /// Returns the number of output pixels of each convolution, at the backbone's own size.
    pub fn conv_pixels(&self) -> &[usize] {
        &self.conv_pixels
    }

    /// Returns the length F of the features.
    pub fn feature_count(&self) -> usize {
        self.feature_count
    }
}

fn unsupported(node: &str, op: &Op) -> ContinualError {
    ContinualError::Operator {
        node: node.to_owned(),
        op: op.name(),
    }
}
