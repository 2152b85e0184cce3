//! From the canonical graph to the steps that are executed: norms and activations join their site, dead nodes go, and
//! every value is released after its last use.

use candle_core::{Device, Tensor};
use clr_onnx::{Activation, Backbone, Conv, Graph, Op, Padding, Pool, ValueId};

use super::{
    frozen::FrozenSite,
    plain::{Plain, has_kernel},
};
use crate::{
    error::{Result, TrainError},
    ops::FrozenConv,
};

/// What one step computes from its inputs.
pub(crate) enum StepKind {
    /// Convolution, what the task puts behind it, and the activation; the index is of the site.
    Site(usize),
    /// Per-channel `x · scale + bias`, then the activation; both `[C]`.
    Affine {
        scale: Tensor,
        bias: Tensor,
        activation: Option<Activation>,
    },
    Activation(Activation),
    /// Slope `[C]`.
    PRelu(Tensor),
    /// Sum, then the activation.
    Add {
        activation: Option<Activation>,
    },
    Mul,
    Concat,
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    Flatten,
    /// Run as a 1×1 convolution on `[N, I, 1, 1]`, so that the frozen weight never gets a gradient; bias `[O]`.
    Dense {
        weight: FrozenConv,
        bias: Tensor,
    },
    Unflatten,
    /// In candle's own operations.
    Plain(Plain),
}

/// One step of the plan.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) kind: StepKind,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) output: ValueId,
    /// Values that nobody reads after this step.
    pub(crate) release: Vec<ValueId>,
}

/// The frozen part.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) sites: Vec<FrozenSite>,
    pub(crate) values: usize,
    pub(crate) features: ValueId,
    pub(crate) device: Device,
}

impl Plan {
    pub(crate) fn new(backbone: &Backbone, device: &Device) -> Result<Self> {
        let graph = backbone.graph();
        let nodes = &graph.nodes;
        let mut site_of = vec![None; nodes.len()];
        // A node that another step computes, and the node whose output that step provides.
        let mut fused = vec![false; nodes.len()];
        let mut sites = Vec::with_capacity(backbone.sites().len());
        for (index, info) in backbone.sites().iter().enumerate() {
            let Op::Conv(conv) = &nodes[info.conv].op else {
                return Err(node_error(&nodes[info.conv].name, "a site must be a convolution"));
            };
            site_of[info.conv] = Some(index);
            let norm = info.norm.map(|norm| &nodes[norm].op);
            let activation = match info.activation.map(|node| &nodes[node].op) {
                Some(Op::Activation(activation)) if has_kernel(*activation) => Some(*activation),
                _ => None,
            };
            for node in [info.norm, info.activation.filter(|_| activation.is_some())]
                .into_iter()
                .flatten()
            {
                fused[node] = true;
            }
            sites.push(FrozenSite::new(conv, norm, activation, device)?);
        }

        // An activation that alone reads a sum, a norm or an affine map of its own joins it.
        let readers = only_readers(graph);
        let mut joined = vec![None; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            if let Some(reader) = readers[index]
                && !fused[index]
                && matches!(node.op, Op::Add | Op::BatchNorm(_) | Op::ChannelAffine { .. })
                && let Op::Activation(activation) = &nodes[reader].op
                && has_kernel(*activation)
            {
                fused[reader] = true;
                joined[index] = Some((reader, *activation));
            }
        }

        let mut steps = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            if fused[index] {
                continue;
            }
            let activation = joined[index].map(|(_, activation)| activation);
            let mut output = joined[index].map_or(index, |(reader, _)| reader);
            let vector = |tensor: &clr_onnx::Tensor| Tensor::from_slice(tensor.data(), tensor.data().len(), device);
            let kind = match &node.op {
                Op::Conv(_) => {
                    let site = site_of[index].ok_or_else(|| node_error(&node.name, "the convolution is not a site"))?;
                    let info = &backbone.sites()[site];
                    let activation = info.activation.filter(|&node| fused[node]);
                    output = activation.or(info.norm).unwrap_or(index);
                    StepKind::Site(site)
                }
                Op::BatchNorm(norm) => {
                    let inverse = |v: &f32| 1.0 / (f64::from(*v) + f64::from(norm.epsilon)).sqrt();
                    let scale: Vec<f64> = (norm.scale.data().iter().zip(norm.variance.data()))
                        .map(|(&scale, variance)| f64::from(scale) * inverse(variance))
                        .collect();
                    let bias: Vec<f32> = (norm.bias.data().iter().zip(norm.mean.data()).zip(&scale))
                        .map(|((&bias, &mean), scale)| (f64::from(bias) - f64::from(mean) * scale) as f32)
                        .collect();
                    let scale: Vec<f32> = scale.into_iter().map(|scale| scale as f32).collect();
                    StepKind::Affine {
                        scale: Tensor::new(scale, device)?,
                        bias: Tensor::new(bias, device)?,
                        activation,
                    }
                }
                Op::ChannelAffine { scale, bias } => StepKind::Affine {
                    scale: vector(scale)?,
                    bias: vector(bias)?,
                    activation,
                },
                Op::Activation(activation) if has_kernel(*activation) => StepKind::Activation(*activation),
                Op::PRelu { slope } => StepKind::PRelu(vector(slope)?),
                Op::Add => StepKind::Add { activation },
                Op::Mul => StepKind::Mul,
                Op::Concat => StepKind::Concat,
                Op::MaxPool(pool) => StepKind::MaxPool(*pool),
                Op::AveragePool(pool) => StepKind::AveragePool(*pool),
                Op::GlobalAveragePool => StepKind::GlobalAveragePool,
                Op::Flatten => StepKind::Flatten,
                Op::Dense { weight, bias } => {
                    let [outputs, inputs] = *weight.shape() else {
                        return Err(node_error(&node.name, "a dense weight must have 2 dimensions"));
                    };
                    let conv = Conv {
                        weight: clr_onnx::Tensor::new(vec![outputs, inputs, 1, 1], weight.shared()),
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
                op => {
                    let Some(plain) = Plain::new(op, device)? else {
                        let reason = format!("the training network has no {}", op.name());
                        return Err(node_error(&node.name, &reason));
                    };
                    StepKind::Plain(plain)
                }
            };
            steps.push(Step {
                name: node.name.clone(),
                kind,
                inputs: node.inputs.clone(),
                output: ValueId::of_node(output),
                release: Vec::new(),
            });
        }
        // A step may now provide a value that a step before it in the list reads only if the graph's order was odd:
        // the fused output stands where its last node stood.
        steps.sort_by_key(|step| step.output);
        drop_dead(&mut steps, graph.features);
        schedule_release(&mut steps, graph.features);
        Ok(Self {
            steps,
            sites,
            values: nodes.len() + 1,
            features: graph.features,
            device: device.clone(),
        })
    }
}

/// For each node, the node that alone reads it (once), unless the features do too.
fn only_readers(graph: &Graph) -> Vec<Option<usize>> {
    let mut readers = vec![Vec::new(); graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for producer in node.inputs.iter().filter_map(|input| input.producer()) {
            readers[producer].push(index);
        }
    }
    let features = graph.features.producer();
    let only = |(index, readers): (usize, Vec<usize>)| match readers[..] {
        [reader] if features != Some(index) => Some(reader),
        _ => None,
    };
    readers.into_iter().enumerate().map(only).collect()
}

fn drop_dead(steps: &mut Vec<Step>, features: ValueId) {
    let mut needed = std::collections::HashSet::from([features]);
    let live: Vec<bool> = (steps.iter().rev())
        .map(|step| {
            let live = needed.contains(&step.output);
            if live {
                needed.extend(&step.inputs);
            }
            live
        })
        .collect();
    let mut live = live.into_iter().rev();
    steps.retain(|_| live.next().unwrap_or(true));
}

fn schedule_release(steps: &mut [Step], features: ValueId) {
    let mut seen = std::collections::HashSet::from([features]);
    for step in steps.iter_mut().rev() {
        for &input in &step.inputs {
            if seen.insert(input) {
                step.release.push(input);
            }
        }
    }
}

fn node_error(node: &str, reason: &str) -> TrainError {
    TrainError::Node {
        node: node.to_owned(),
        reason: reason.to_owned(),
    }
}
