//! Conv, `BatchNormalization`, Pad.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Refusal, Value, unsupported},
    },
    standardised,
};
use crate::{
    Tensor,
    graph::{BatchNorm, Conv, Op, PadMode, Padding},
};

pub(super) fn conv<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])?;
    let input = import.data(source, 0)?;
    let weight = import.tensor(source, 1)?;
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

/// `auto_pad` and `pads`.
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
        return unsupported("expected inference mode\nhint: call model.eval() before exporting");
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
    let mode = source.text("mode", "constant")?;
    if mode != "constant" {
        return unsupported(format!("mode `{mode}`"));
    }
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
    let mut sides = [0; 4];
    for (place, &axis) in axes.iter().enumerate() {
        let axis = if axis < 0 { axis.saturating_add(rank) } else { axis };
        // Of the map in the graph: 1 for the height, 2 for the width.
        let factor = usize::try_from(axis).ok().and_then(|axis| input.factor(axis));
        for (end, &pad) in [&pads[place], &pads[place + axes.len()]].into_iter().enumerate() {
            match (factor, usize::try_from(pad)) {
                (Some(factor @ (1 | 2)), Ok(pad)) => sides[end * 2 + factor - 1] = pad,
                (_, Ok(0)) if (0..rank).contains(&axis) => {}
                _ => return unsupported(format!("padding {pad} on axis {axis}")),
            }
        }
    }
    let value = match source.input(2) {
        Some(_) => scalar(&import.tensor(source, 2)?)?,
        None => source.float("value", 0.0)?,
    };
    import.push_on(
        source,
        Op::Pad {
            pads: sides,
            mode: PadMode::Constant(value),
        },
        &input,
    )
}

/// The value of a constant with one element.
pub(super) fn scalar(tensor: &Tensor) -> Result<f32, Refusal> {
    match tensor.data() {
        &[value] => Ok(value),
        _ => unsupported(format!("expected one value, got {:?}", tensor.shape())),
    }
}
