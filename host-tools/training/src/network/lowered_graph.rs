//! The backbone's program in candle: steps with frozen tensors on a device.

use candle_core::{Device, Tensor};
use clr_onnx::{Activation, Backbone, Conv, Op, Padding, Pool, Program, Quantisation, StepOp, ValueId};

use super::{frozen::FrozenSite, plain::Plain};
use crate::{
    error::{Result, TrainError},
    ops::FrozenConv,
};

/// Operation of a step.
pub(crate) enum StepKind {
    /// Convolution, the task's site, the shortcut if there is one, and the activation. The number is the index of the
    /// site.
    Site(usize),
    /// `x · scale + bias` per channel, then the activation. Both are `[C]`.
    Affine {
        scale: Tensor,
        bias: Tensor,
        activation: Option<Activation>,
    },
    Activation(Activation),
    /// Rounding to a grid.
    Round(Quantisation),
    /// `PRelu` with this slope `[C]`.
    PRelu(Tensor),
    /// Sum of two values, then the activation.
    Add {
        activation: Option<Activation>,
    },
    Mul,
    /// Concatenates the inputs, then selects channels. `None` takes all channels in order.
    Gather(Option<Tensor>),
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    Flatten,
    /// Dense layer, executed as a 1×1 convolution on `[N, I, 1, 1]`, so that the frozen weight never gets a gradient.
    /// The bias is `[O]`.
    Dense {
        weight: FrozenConv,
        bias: Tensor,
    },
    Unflatten,
    /// An operator implemented with candle's own operations.
    Plain(Plain),
}

/// A step of the graph.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) kind: StepKind,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) output: ValueId,
    /// Values that no later step reads.
    pub(crate) release: Vec<ValueId>,
    /// The grid to which the result is rounded.
    pub(crate) grid: Option<Quantisation>,
}

/// The frozen network.
pub(crate) struct LoweredGraph {
    pub(crate) steps: Vec<Step>,
    /// `None` for a site whose result nothing reads.
    pub(crate) sites: Vec<Option<FrozenSite>>,
    pub(crate) values: usize,
    pub(crate) features: ValueId,
    pub(crate) device: Device,
}

impl LoweredGraph {
    pub(crate) fn new(backbone: &Backbone, device: &Device) -> Result<Self> {
        // Fusion does not depend on the size, and the operators resolve their paddings at run time.
        let preprocessing = backbone.preprocessing();
        let program = Program::lower(
            backbone,
            [preprocessing.height, preprocessing.width].map(|side| side as usize),
        )?;
        let mut sites: Vec<Option<FrozenSite>> = (0..program.sites).map(|_| None).collect();
        let mut steps = Vec::with_capacity(program.steps.len());
        for step in program.steps {
            let kind = match step.op {
                StepOp::Conv(conv) => {
                    sites[conv.site] = Some(FrozenSite::new(&conv, device)?);
                    StepKind::Site(conv.site)
                }
                StepOp::Affine {
                    scale,
                    bias,
                    activation,
                } => StepKind::Affine {
                    scale: Tensor::new(scale, device)?,
                    bias: Tensor::new(bias, device)?,
                    activation,
                },
                StepOp::Add { activation } => StepKind::Add { activation },
                StepOp::Gather { index } => {
                    let channels: usize = step.inputs.iter().map(|input| program.shapes[input.0].channels()).sum();
                    let all = index.len() == channels && (0..).zip(&*index).all(|(at, &from)| at == from);
                    let index = (!all).then(|| Tensor::from_slice(&index, index.len(), device));
                    StepKind::Gather(index.transpose()?)
                }
                StepOp::Node(op) => node(&step.name, &op, device)?,
                _ => return Err(node_error(&step.name, "the training network does not know this step")),
            };
            steps.push(Step {
                name: step.name,
                kind,
                inputs: step.inputs,
                output: step.output,
                release: step.last_uses,
                grid: step.grid,
            });
        }
        Ok(Self {
            steps,
            sites,
            values: program.shapes.len(),
            features: program.features,
            device: device.clone(),
        })
    }
}

/// Returns the step for a single operator.
fn node(name: &str, op: &Op, device: &Device) -> Result<StepKind> {
    let vector = |tensor: &clr_onnx::Tensor| Tensor::from_slice(tensor.data(), tensor.data().len(), device);
    Ok(match op {
        Op::Activation(activation) => StepKind::Activation(*activation),
        Op::PRelu { slope } => StepKind::PRelu(vector(slope)?),
        Op::FakeQuantise(grid) => StepKind::Round(*grid),
        Op::Mul => StepKind::Mul,
        Op::MaxPool(pool) => StepKind::MaxPool(*pool),
        Op::AveragePool(pool) => StepKind::AveragePool(*pool),
        Op::GlobalAveragePool => StepKind::GlobalAveragePool,
        Op::Flatten => StepKind::Flatten,
        Op::Dense { weight, bias } => {
            let [outputs, inputs] = *weight.shape() else {
                return Err(node_error(name, "a dense weight must have 2 dimensions"));
            };
            let conv = Conv {
                weight: clr_onnx::Tensor::new(vec![outputs, inputs, 1, 1], weight.shared()).into(),
                bias: None,
                stride: [1, 1],
                dilation: [1, 1],
                group: 1,
                padding: Padding::Explicit([0; 4]),
            };
            StepKind::Dense {
                weight: FrozenConv::new(&conv, device)?,
                bias: vector(bias)?,
            }
        }
        Op::Unflatten => StepKind::Unflatten,
        op => match Plain::new(op, device)? {
            Some(plain) => StepKind::Plain(plain),
            None => return Err(node_error(name, &format!("the training network has no {}", op.name()))),
        },
    })
}

fn node_error(node: &str, reason: &str) -> TrainError {
    TrainError::Node {
        node: node.to_owned(),
        reason: reason.to_owned(),
    }
}
