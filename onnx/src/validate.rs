//! Checks that a graph is well-formed. Code that runs after these checks cannot index out of bounds.

use std::collections::HashSet;

use clr_adapters::{Head, Preprocessing};

use crate::{
    ConvWeight, OnnxError, Tensor,
    graph::{Conv, Graph, Op, PadMode, Padding, Pool, ValueId},
    limits::{MAX_CHANNELS, MAX_NODES, MAX_PIXELS, MAX_WINDOW, RESERVED_NAME},
};

/// Checks names, order, arity and weights of every node.
pub(crate) fn graph(graph: &Graph) -> Result<(), OnnxError> {
    let whole = |reason: String| OnnxError::Graph { reason };
    if graph.input_channels == 0 || graph.input_channels > MAX_CHANNELS {
        return Err(whole(format!(
            "input channels: expected 1 to {MAX_CHANNELS}, got {}",
            graph.input_channels
        )));
    }
    if graph.nodes.len() > MAX_NODES {
        return Err(whole(format!("at most {MAX_NODES} nodes, got {}", graph.nodes.len())));
    }
    if graph.features.0 > graph.nodes.len() {
        return Err(whole(format!(
            "the features are value {}, the graph has {}",
            graph.features.0,
            graph.nodes.len() + 1
        )));
    }
    let mut names = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if node.name.is_empty() || !names.insert(node.name.as_str()) {
            return Err(whole(format!("node {index} needs a unique name, got `{}`", node.name)));
        }
        if node.name == RESERVED_NAME {
            return Err(whole(format!(
                "node {index} is called `{RESERVED_NAME}`, a name that belongs to the classifier"
            )));
        }
        let fail = |reason: String| OnnxError::Node {
            node: node.name.clone(),
            reason,
        };
        if let Some(&ValueId(value)) = node.inputs.iter().find(|input| input.0 > index) {
            return Err(fail(format!("reads value {value}, which does not come before it")));
        }
        op(&node.op, node.inputs.len()).map_err(fail)?;
    }
    Ok(())
}

/// Checks that a preprocessing can be executed.
pub(crate) fn preprocessing(preprocessing: &Preprocessing) -> Result<(), OnnxError> {
    let fail = |reason: String| {
        Err(OnnxError::Graph {
            reason: format!("preprocessing: {reason}"),
        })
    };
    let size = [preprocessing.height, preprocessing.width];
    if size.iter().any(|side| !(1..=MAX_PIXELS).contains(side)) {
        return fail(format!(
            "expected sides of 1 to {MAX_PIXELS} pixels, got {} × {}",
            size[0], size[1]
        ));
    }
    let finite = preprocessing
        .mean
        .iter()
        .chain(&preprocessing.std)
        .all(|value| value.is_finite());
    if !finite || preprocessing.std.contains(&0.0) {
        return fail(format!(
            "expected a finite mean and a finite std ≠ 0, got {:?} and {:?}",
            preprocessing.mean, preprocessing.std
        ));
    }
    Ok(())
}

/// Checks that classifier, labels and features match.
pub(crate) fn classifier(head: Option<&Head>, labels: Option<&[String]>, features: usize) -> Result<(), OnnxError> {
    let fail = |reason: String| {
        Err(OnnxError::Node {
            node: "classifier".into(),
            reason,
        })
    };
    let classes = head.map_or(0, Head::classes);
    if let Some(head) = head {
        if head.features != features {
            return fail(format!("expected {features} features, got {}", head.features));
        }
        if classes == 0 || head.weight.len() != classes * features {
            return fail(format!(
                "expected {classes} × {features} weights, got {}",
                head.weight.len()
            ));
        }
        if !head.weight.iter().chain(&head.bias).all(|value| value.is_finite()) {
            return fail("a weight is not finite".into());
        }
    }
    match labels {
        Some(labels) if labels.len() != classes => fail(format!("expected {classes} labels, got {}", labels.len())),
        _ => Ok(()),
    }
}

/// Checks the weights and attributes of an operation, and the number of its inputs.
pub(crate) fn op(op: &Op, arity: usize) -> Result<(), String> {
    let expected = match op {
        Op::Add | Op::Mul => 2,
        Op::Concat => arity.max(1),
        Op::Opaque(opaque) => opaque.inputs().len(),
        _ => 1,
    };
    if arity != expected {
        return Err(format!("{}: expected {expected} input(s), got {arity}", op.name()));
    }
    match op {
        Op::Conv(conv) => convolution(conv),
        Op::BatchNorm(norm) => {
            vectors(&[
                ("scale", &norm.scale),
                ("bias", &norm.bias),
                ("mean", &norm.mean),
                ("variance", &norm.variance),
            ])?;
            // A variance may be slightly negative due to rounding, but the argument of the square root must be
            // positive.
            let sane = |&variance: &f32| f64::from(variance) + f64::from(norm.epsilon) > 0.0;
            if norm.epsilon.is_finite() && norm.epsilon >= 0.0 && norm.variance.data().iter().all(sane) {
                Ok(())
            } else {
                Err(format!(
                    "variance + epsilon must be positive, epsilon is {}",
                    norm.epsilon
                ))
            }
        }
        Op::PRelu { slope } => vectors(&[("slope", slope)]),
        Op::ChannelAffine { scale, bias } => vectors(&[("scale", scale), ("bias", bias)]),
        Op::MaxPool(pool) | Op::AveragePool(pool) => window(pool),
        Op::Pad { pads, mode } => {
            let finite = !matches!(mode, PadMode::Constant(value) if !value.is_finite());
            if pads.iter().any(|&pad| pad > MAX_WINDOW) || !finite {
                return Err(format!(
                    "pads up to {MAX_WINDOW} and a finite value expected, got {pads:?} and {mode:?}"
                ));
            }
            Ok(())
        }
        Op::Dense { weight, bias } => match *weight.shape() {
            [outputs, features] if outputs > 0 && features > 0 && bias.shape() == [outputs] => {
                finite("weight", weight).and(finite("bias", bias))
            }
            _ => Err(format!(
                "expected weight [O, I] and bias [O], got {:?} and {:?}",
                weight.shape(),
                bias.shape()
            )),
        },
        Op::Activation(activation) => activation.check(),
        Op::GatherChannels { index } => {
            if (1..=MAX_CHANNELS).contains(&index.len()) {
                Ok(())
            } else {
                Err(format!("expected 1 to {MAX_CHANNELS} channels, got {}", index.len()))
            }
        }
        Op::Crop { size, step, .. } => {
            if size.contains(&0) || step.contains(&0) {
                return Err(format!(
                    "expected a size and steps of at least 1, got {size:?} and {step:?}"
                ));
            }
            Ok(())
        }
        Op::LayerNorm { scale, bias, epsilon } | Op::GlobalResponseNorm { scale, bias, epsilon } => {
            vectors(&[("scale", scale), ("bias", bias)])?;
            positive(*epsilon)
        }
        Op::GroupNorm {
            groups,
            scale,
            bias,
            epsilon,
        } => {
            vectors(&[("scale", scale), ("bias", bias)])?;
            positive(*epsilon)?;
            let channels = scale.data().len();
            if *groups == 0 || !channels.is_multiple_of(*groups) {
                return Err(format!("{groups} groups do not divide {channels} channels"));
            }
            Ok(())
        }
        Op::ChannelConv { kernel, bias, pads } => {
            vectors(&[("kernel", kernel)])?;
            if kernel.data().len() > MAX_WINDOW || pads.iter().any(|&pad| pad > MAX_WINDOW) || !bias.is_finite() {
                return Err(format!(
                    "a kernel and pads up to {MAX_WINDOW} and a finite bias expected, got {:?}, {pads:?} and {bias}",
                    kernel.shape()
                ));
            }
            Ok(())
        }
        Op::Softmax { groups } => {
            if *groups == 0 {
                return Err("expected at least 1 group, got 0".to_owned());
            }
            Ok(())
        }
        Op::Resize(resize) => resize.check(),
        Op::FakeQuantise(quantisation) => quantisation.check(),
        Op::Add | Op::Mul | Op::Concat | Op::GlobalAveragePool | Op::Flatten | Op::Unflatten | Op::Opaque(_) => Ok(()),
    }
}

fn positive(epsilon: f32) -> Result<(), String> {
    if epsilon.is_finite() && epsilon >= 0.0 {
        Ok(())
    } else {
        Err(format!("epsilon: expected a finite value of at least 0, got {epsilon}"))
    }
}

fn convolution(conv: &Conv) -> Result<(), String> {
    let &[outputs, inputs, rows, columns] = conv.weight.shape() else {
        return Err(format!(
            "weight: expected [O, I / group, kh, kw], got {:?}",
            conv.weight.shape()
        ));
    };
    if outputs == 0 || inputs == 0 || outputs.max(inputs) > MAX_CHANNELS {
        return Err(format!(
            "weight: expected 1 to {MAX_CHANNELS} channels, got {:?}",
            conv.weight.shape()
        ));
    }
    if conv.group == 0 || outputs % conv.group != 0 || conv.group > MAX_CHANNELS {
        return Err(format!(
            "group {} does not divide {outputs} output channels",
            conv.group
        ));
    }
    sides("kernel", [rows, columns])?;
    sides("stride", conv.stride)?;
    sides("dilation", conv.dilation)?;
    pads(conv.padding)?;
    match &conv.weight {
        ConvWeight::Float(tensor) => finite("weight", tensor)?,
        ConvWeight::Int8(tensor) => {
            // The real values are finite too.
            let usable = |scale: &f32| *scale > 0.0 && (scale * 128.0).is_finite();
            if let Some(channel) = tensor.scale().iter().position(|scale| !usable(scale)) {
                let scale = tensor.scale()[channel];
                return Err(format!(
                    "scale of channel {channel}: expected a positive finite number, got {scale}"
                ));
            }
        }
    }
    match &conv.bias {
        Some(bias) if bias.shape() != [outputs] => Err(format!("bias: expected [{outputs}], got {:?}", bias.shape())),
        Some(bias) => finite("bias", bias),
        None => Ok(()),
    }
}

fn window(pool: &Pool) -> Result<(), String> {
    sides("kernel", pool.kernel)?;
    sides("stride", pool.stride)?;
    pads(pool.padding)?;
    match pool.padding {
        Padding::Explicit([top, left, bottom, right])
            if top.max(bottom) >= pool.kernel[0] || left.max(right) >= pool.kernel[1] =>
        {
            Err(format!(
                "padding {:?} must be smaller than the window {:?}",
                [top, left, bottom, right],
                pool.kernel
            ))
        }
        _ => Ok(()),
    }
}

fn sides(what: &str, values: [usize; 2]) -> Result<(), String> {
    if values.iter().all(|value| (1..=MAX_WINDOW).contains(value)) {
        Ok(())
    } else {
        Err(format!("{what}: expected 1 to {MAX_WINDOW}, got {values:?}"))
    }
}

fn pads(padding: Padding) -> Result<(), String> {
    match padding {
        Padding::Explicit(pads) if pads.iter().any(|&pad| pad > MAX_WINDOW) => {
            Err(format!("padding: at most {MAX_WINDOW}, got {pads:?}"))
        }
        _ => Ok(()),
    }
}

fn vectors(named: &[(&str, &Tensor)]) -> Result<(), String> {
    let channels = named[0].1.data().len();
    for &(what, tensor) in named {
        if tensor.shape() != [channels] || channels == 0 {
            return Err(format!("{what}: expected [{channels}], got {:?}", tensor.shape()));
        }
        finite(what, tensor)?;
    }
    Ok(())
}

fn finite(what: &str, tensor: &Tensor) -> Result<(), String> {
    match tensor.data().iter().position(|value| !value.is_finite()) {
        Some(index) => Err(format!("{what}: value {index} is not finite")),
        None => Ok(()),
    }
}
