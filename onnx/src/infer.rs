//! Shape inference in NCHW, with a symbolic batch.

use crate::{
    graph::{Conv, Graph, Op, PadMode, Pool, ValueId},
    shape::Shape,
};

/// Maximum number of elements of a value per image; a backbone beyond it is refused.
const MAX_ELEMENTS: usize = 1 << 30;

/// Returns the shape of every value for an image of `size` (rows, columns), by [`ValueId`]. On failure, returns the
/// failing node and the reason.
pub(crate) fn infer_all(graph: &Graph, size: [usize; 2]) -> Result<Vec<Shape>, (usize, String)> {
    let image = checked(Shape::Map([graph.input_channels, size[0], size[1]])).map_err(|reason| (0, reason))?;
    let mut shapes = Vec::with_capacity(graph.nodes.len() + 1);
    shapes.push(image);
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs: Option<Vec<Shape>> = node
            .inputs
            .iter()
            .map(|&ValueId(value)| shapes.get(value).copied())
            .collect();
        let inputs = inputs.ok_or_else(|| (index, "reads a later value".to_owned()))?;
        shapes.push(infer(&node.op, &inputs).map_err(|reason| (index, reason))?);
    }
    Ok(shapes)
}

/// Returns the shape of the result of `op` on `inputs`, or the reason why it does not fit them.
pub(crate) fn infer(op: &Op, inputs: &[Shape]) -> Result<Shape, String> {
    let output = match (op, inputs) {
        (Op::Conv(conv), &[Shape::Map(input)]) => convolve(conv, input)?,
        (Op::BatchNorm(norm), &[input]) => per_channel("norm", norm.scale.data().len(), input)?,
        (Op::PRelu { slope }, &[input]) => per_channel("slope", slope.data().len(), input)?,
        (Op::ChannelAffine { scale, .. } | Op::LayerNorm { scale, .. }, &[input])
        | (Op::GroupNorm { scale, .. } | Op::GlobalResponseNorm { scale, .. }, &[input @ Shape::Map(_)]) => {
            per_channel("scale", scale.data().len(), input)?
        }
        (Op::Activation(_) | Op::FakeQuantise(_), &[input]) => input,
        (Op::Add | Op::Mul, &[left, right]) => broadcast(left, right)?,
        (Op::Concat, inputs) => concat(inputs)?,
        (Op::MaxPool(pool) | Op::AveragePool(pool), &[Shape::Map(input)]) => window(pool, input)?,
        (Op::GlobalAveragePool, &[Shape::Map([channels, ..])]) => Shape::Map([channels, 1, 1]),
        (
            Op::Pad {
                pads: [top, left, bottom, right],
                ..
            },
            &[Shape::Map([c, h, w])],
        ) => {
            padded(op, [h, w])?;
            Shape::Map([c, h + top + bottom, w + left + right])
        }
        (Op::Flatten, &[Shape::Map([c, h, w])]) => Shape::Vector(c.saturating_mul(h).saturating_mul(w)),
        (Op::Unflatten, &[Shape::Vector(length)]) => Shape::Map([length, 1, 1]),
        (Op::Dense { weight, .. }, &[Shape::Vector(length)]) => match *weight.shape() {
            [outputs, features] if features == length => Shape::Vector(outputs),
            _ => {
                return Err(format!(
                    "expected {} input features, got {length}",
                    weight.shape().get(1).unwrap_or(&0)
                ));
            }
        },
        (Op::GatherChannels { index }, &[input]) => gather(index, input)?,
        (&Op::Crop { start, size, step }, &[Shape::Map([channels, height, width])]) => {
            for (axis, length) in [height, width].into_iter().enumerate() {
                let last = size[axis].saturating_sub(1).saturating_mul(step[axis]);
                if last.saturating_add(start[axis]) >= length {
                    return Err(format!(
                        "{} of {length} from {} in steps of {}",
                        size[axis], start[axis], step[axis]
                    ));
                }
            }
            Shape::Map([channels, size[0], size[1]])
        }
        (Op::ChannelConv { kernel, pads, .. }, &[input @ (Shape::Vector(channels) | Shape::Map([channels, 1, 1]))]) => {
            let outputs = (channels + pads[0] + pads[1] + 1).checked_sub(kernel.data().len());
            let outputs = outputs.ok_or_else(|| format!("a kernel of {} along {input}", kernel.data().len()))?;
            with_channels(input, outputs)
        }
        (&Op::Softmax { groups }, &[input @ (Shape::Vector(channels) | Shape::Map([channels, 1, 1]))]) => {
            if !channels.is_multiple_of(groups) {
                return Err(format!("{groups} groups of {input}"));
            }
            input
        }
        (Op::Resize(resize), &[Shape::Map([channels, height, width])]) => {
            let [height, width] = resize.output([height, width]);
            Shape::Map([channels, height, width])
        }
        (Op::Opaque(opaque), inputs) => opaque.infer(inputs)?,
        _ => {
            let got: Vec<String> = inputs.iter().map(ToString::to_string).collect();
            return Err(format!(
                "{} cannot read {}",
                op.name(),
                if got.is_empty() {
                    "nothing".into()
                } else {
                    got.join(" and ")
                }
            ));
        }
    };
    checked(output)
}

fn checked(shape: Shape) -> Result<Shape, String> {
    match shape.elements() {
        0 => Err(format!("an empty value: {shape}")),
        1..=MAX_ELEMENTS => Ok(shape),
        _ => Err(format!("a value larger than {MAX_ELEMENTS} elements: {shape}")),
    }
}

fn per_channel(what: &str, expected: usize, input: Shape) -> Result<Shape, String> {
    if expected == input.channels() {
        Ok(input)
    } else {
        Err(format!("{what}: expected {expected} channels, got {input}"))
    }
}

fn with_channels(shape: Shape, channels: usize) -> Shape {
    match shape {
        Shape::Map([_, height, width]) => Shape::Map([channels, height, width]),
        Shape::Vector(_) => Shape::Vector(channels),
    }
}

fn gather(index: &[u32], input: Shape) -> Result<Shape, String> {
    match index.iter().find(|&&channel| channel as usize >= input.channels()) {
        Some(channel) => Err(format!("channel {channel} of {input}")),
        None => Ok(with_channels(input, index.len())),
    }
}

/// Checks that a map of `size` is large enough for the padding mode: a mirror or a wrap-around only has as many pixels
/// as the map.
fn padded(op: &Op, size: [usize; 2]) -> Result<(), String> {
    let Op::Pad { pads, mode } = op else { return Ok(()) };
    let room = |length: usize| match mode {
        PadMode::Constant(_) | PadMode::Edge => usize::MAX,
        PadMode::Reflect => length - 1,
        PadMode::Wrap => length,
    };
    for (side, &pad) in pads.iter().enumerate() {
        let length = size[side % 2];
        if pad > room(length) {
            return Err(format!(
                "padding {pad} of {length} pixels by {mode:?}: at most {}",
                room(length)
            ));
        }
    }
    Ok(())
}

fn convolve(conv: &Conv, [channels, height, width]: [usize; 3]) -> Result<Shape, String> {
    let expected = conv.weight.shape()[1] * conv.group;
    if expected != channels {
        return Err(format!("expected {expected} input channels, got {channels}"));
    }
    let pads = conv
        .padding
        .resolve([height, width], conv.kernel(), conv.stride, conv.dilation);
    let size = [height, width];
    let mut output = [0; 2];
    for axis in 0..2 {
        let reach = (conv.kernel()[axis] - 1) * conv.dilation[axis] + 1;
        let room = (size[axis] + pads[axis] + pads[axis + 2])
            .checked_sub(reach)
            .ok_or_else(|| {
                format!(
                    "the kernel reaches {reach} pixels, the padded input has {}",
                    size[axis] + pads[axis] + pads[axis + 2]
                )
            })?;
        output[axis] = room / conv.stride[axis] + 1;
    }
    Ok(Shape::Map([conv.channels(), output[0], output[1]]))
}

fn window(pool: &Pool, [channels, height, width]: [usize; 3]) -> Result<Shape, String> {
    let pads = pool.padding.resolve([height, width], pool.kernel, pool.stride, [1, 1]);
    let size = [height, width];
    let mut output = [0; 2];
    for axis in 0..2 {
        let padded = size[axis] + pads[axis] + pads[axis + 2];
        let room = padded
            .checked_sub(pool.kernel[axis])
            .ok_or_else(|| format!("the window has {} pixels, the padded input {padded}", pool.kernel[axis]))?;
        output[axis] = if pool.ceil {
            room.div_ceil(pool.stride[axis])
        } else {
            room / pool.stride[axis]
        } + 1;
        // A last window that would start in the padding after the input is not included, in ONNX as in PyTorch.
        if pool.ceil && (output[axis] - 1) * pool.stride[axis] >= size[axis] + pads[axis] {
            output[axis] -= 1;
        }
    }
    Ok(Shape::Map([channels, output[0], output[1]]))
}

fn broadcast(left: Shape, right: Shape) -> Result<Shape, String> {
    let gate = |map: Shape, gate: Shape| {
        let per_channel = map.channels() == gate.channels() && gate.spatial() == Some([1, 1]);
        let per_pixel = gate.channels() == 1 && gate.spatial() == map.spatial();
        map.spatial().is_some() && (per_channel || per_pixel)
    };
    if left == right || gate(left, right) {
        Ok(left)
    } else if gate(right, left) {
        Ok(right)
    } else {
        Err(format!(
            "{left} and {right} do not go together: expected equal shapes, or [N, C, 1, 1] or [N, 1, H, W] next to [N, C, H, W]"
        ))
    }
}

fn concat(inputs: &[Shape]) -> Result<Shape, String> {
    let (first, rest) = inputs.split_first().ok_or("nothing to concatenate")?;
    rest.iter().try_fold(*first, |sum, &next| match (sum, next) {
        (Shape::Map([c, h, w]), Shape::Map([more, h2, w2])) if [h, w] == [h2, w2] => {
            Ok(Shape::Map([c.saturating_add(more), h, w]))
        }
        (Shape::Vector(length), Shape::Vector(more)) => Ok(Shape::Vector(length.saturating_add(more))),
        _ => Err(format!("{sum} and {next} cannot be concatenated along the channels")),
    })
}
