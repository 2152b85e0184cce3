//! Conv, `BatchNormalization` and Pad.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Dim, Refusal, Value, unsupported},
        view::{Part, View},
    },
    standardised,
};
use crate::{
    ConvWeight, Shape, Tensor,
    graph::{BatchNorm, Conv, Op, PadMode, Padding},
};

pub(super) fn conv<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
    let weight = match import.value(source, 1)? {
        Value::Weight(weight) => weight.into(),
        _ => ConvWeight::from(import.tensor(source, 1)?),
    };
    if let ConvWeight::Float(weight) = &weight
        && weight.shape().len() == 3
    {
        return along_channels(import, source, weight);
    }
    let input = import.data(source, 0)?;
    let bias = match source.input(2) {
        Some(_) => Some(import.tensor(source, 2)?),
        None => None,
    };
    let &[_, _, rows, columns] = weight.shape() else {
        return unsupported(format!("weight {:?}: only 2-D convolutions", weight.shape()));
    };
    let kernel = source.sizes("kernel_shape", [rows, columns])?;
    if kernel != [rows, columns] {
        return unsupported(format!(
            "kernel_shape {kernel:?} is not that of the weight {:?}",
            weight.shape()
        ));
    }
    let group = source.int("group", 1)?;
    let Ok(group) = usize::try_from(group) else {
        return unsupported(format!("group {group}"));
    };
    let conv = Conv {
        weight,
        bias,
        stride: source.sizes("strides", [1, 1])?,
        dilation: source.sizes("dilations", [1, 1])?,
        group,
        padding: padding(source)?,
    };
    import.push(source.name, Op::Conv(conv), vec![input])
}

/// Adds a 1-D convolution whose only spatial axis is the channels of a vector (efficient channel attention).
fn along_channels<'a>(import: &mut Import<'a>, source: Source<'a>, weight: &Tensor) -> Converted {
    let view = import.view(source, 0)?;
    let shape = import.shape(view.value);
    let fits = view.rank() == 3
        && view.dims()[0] == 1
        && shape.spatial().is_none_or(|size| size == [1, 1])
        && view.groups(2, shape) == Some(shape.channels());
    if !fits || weight.shape()[..2] != [1, 1] {
        return unsupported(format!(
            "1-D, of {} and weight {:?}: expected two spatial dimensions, or one kernel along the channels of a vector",
            view.describe(),
            weight.shape()
        ));
    }
    let unit = source.sizes("strides", [1])? == [1] && source.sizes("dilations", [1])? == [1];
    if !unit || source.int("group", 1)? != 1 {
        return unsupported("1-D with strides, dilations or groups");
    }
    let length = weight.shape()[2];
    let pads = match source.text("auto_pad", "NOTSET")? {
        "NOTSET" => source.sizes("pads", [0; 2])?,
        "VALID" => [0; 2],
        "SAME_UPPER" => [(length - 1) / 2, length / 2],
        "SAME_LOWER" => [length / 2, (length - 1) / 2],
        other => return unsupported(format!("auto_pad `{other}`")),
    };
    let bias = match source.input(2) {
        Some(_) => scalar(&import.tensor(source, 2)?)?,
        None => 0.0,
    };
    let kernel = Tensor::new([length], weight.shared());
    import.push_on(source, Op::ChannelConv { kernel, bias, pads }, &view)
}

/// Returns the padding given by the attributes `auto_pad` and `pads`.
pub(super) fn padding(source: Source<'_>) -> Result<Padding, Refusal> {
    Ok(match source.text("auto_pad", "NOTSET")? {
        "NOTSET" => Padding::Explicit(source.sizes("pads", [0; 4])?),
        "VALID" => Padding::Explicit([0; 4]),
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => return unsupported(format!("auto_pad `{other}`")),
    })
}

pub(super) fn batch_norm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["consumed_inputs", "epsilon", "momentum", "spatial", "training_mode"])?;
    let value = import.value(source, 0)?;
    let constant = matches!(value, Value::Tensor(_));
    if source.flag("training_mode", false)? && !constant || !source.flag("spatial", true)? {
        let reason = "expected inference mode\nhint: call model.eval() before exporting";
        return Err(Refusal::Invalid(reason.to_owned()));
    }
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|index| import.tensor(source, index));
    let norm = BatchNorm {
        scale: scale?,
        bias: bias?,
        mean: mean?,
        variance: variance?,
        epsilon: source.float("epsilon", 1e-5)?,
    };
    if let Value::Tensor(tensor) = value {
        return standardised::normalised(import, source, &tensor, &norm);
    }
    let input = import.view(source, 0)?;
    if let Value::Data(value) = import.settled(source, input.clone()) {
        return import.push(source.name, Op::BatchNorm(norm), vec![value]);
    }
    let arranged = |tensor: &Tensor| {
        if input.is_channels(1) {
            Some(tensor.clone())
        } else {
            input.vector(tensor)
        }
    };
    let vectors = [&norm.scale, &norm.bias, &norm.mean, &norm.variance].map(arranged);
    let [Some(scale), Some(bias), Some(mean), Some(variance)] = vectors else {
        return unsupported(format!("input 0: expected channels first, got {}", input.describe()));
    };
    let norm = BatchNorm {
        scale,
        bias,
        mean,
        variance,
        ..norm
    };
    import.push_on(source, Op::BatchNorm(norm), &input)
}

pub(super) fn pad<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["mode", "pads", "value"])?;
    let input = import.view(source, 0)?;
    let pads = match source.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => match import.integers(source, 1)? {
            Some(pads) => pads,
            None => return unsupported("no pads"),
        },
    };
    let rank = input.rank() as i64;
    let axes = import.integers(source, 3)?.unwrap_or_else(|| (0..rank).collect());
    if pads.len() != 2 * axes.len() {
        return unsupported(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    // Top, left, bottom, right.
    let mut sides = [0_i64; 4];
    for (place, &axis) in axes.iter().enumerate() {
        let axis = if axis < 0 { axis.saturating_add(rank) } else { axis };
        let part = usize::try_from(axis).ok().and_then(|axis| input.part(axis));
        let side = match part {
            Some(Part::Rows) => Some(0),
            Some(Part::Columns) => Some(1),
            _ => None,
        };
        for (end, &pad) in [&pads[place], &pads[place + axes.len()]].into_iter().enumerate() {
            match (side, pad) {
                (Some(side), pad) => sides[end * 2 + side] = pad,
                (_, 0) if (0..rank).contains(&axis) => {}
                _ => return unsupported(format!("padding {pad} on axis {axis}")),
            }
        }
    }
    let mode = match source.text("mode", "constant")? {
        "constant" => PadMode::Constant(match source.input(2) {
            Some(_) => match import.value(source, 2)? {
                // Some exporters lose the type and write an integer.
                Value::Integers { values, .. } if values[..] == [Dim::Known(0)] => 0.0,
                _ => scalar(&import.tensor(source, 2)?)?,
            },
            None => source.float("value", 0.0)?,
        }),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return unsupported(format!("mode `{other}`")),
    };
    padded(import, source, input, sides, mode)
}

/// Removes rows and columns where the padding is negative, then pads. For constant padding the order does not matter;
/// for other modes the crop comes first, as in ONNX Runtime.
fn padded<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    mut view: View,
    sides: [i64; 4],
    mode: PadMode,
) -> Converted {
    if sides == [0; 4] && !matches!(mode, PadMode::Constant(_)) {
        return Ok(import.settled(source, view));
    }
    let pads = sides.map(|pad| usize::try_from(pad).unwrap_or(0));
    if let Shape::Map([_, height, width]) = import.shape(view.value)
        && sides.iter().any(|&pad| pad < 0)
    {
        let cut = sides.map(|pad| usize::try_from(-pad.clamp(i64::MIN + 1, 0)).unwrap_or(usize::MAX));
        let [top, left, bottom, right] = cut;
        let (rows, columns) = (
            height.checked_sub(top.saturating_add(bottom)),
            width.checked_sub(left.saturating_add(right)),
        );
        let (Some(rows), Some(columns)) = (rows, columns) else {
            return unsupported(format!("padding {sides:?} of {height} × {width} pixels"));
        };
        let crop = Op::Crop {
            start: [top, left],
            size: [rows, columns],
            step: [1, 1],
        };
        if pads == [0; 4] {
            return import.push_on(source, crop, &view);
        }
        let value = import.pushed_helper(source, "crop", crop, view.value)?;
        view = match view.of(value, import.shape(value)) {
            Some(view) => view,
            None => return unsupported(format!("of {}", view.describe())),
        };
    }
    import.push_on(source, Op::Pad { pads, mode }, &view)
}

/// Returns the value of a constant with a single element.
pub(super) fn scalar(tensor: &Tensor) -> Result<f32, Refusal> {
    match tensor.data() {
        &[value] => Ok(value),
        _ => unsupported(format!("expected one value, got {:?}", tensor.shape())),
    }
}
