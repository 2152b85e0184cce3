//! `MaxPool`, `AveragePool`, `GlobalAveragePool`, `ReduceMean` over height and width.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Refusal, Value, unsupported},
        view::{Part, View},
    },
    convolution::padding,
    norms,
    reshape::normalise,
    standardised,
};
use crate::{
    Shape,
    graph::{Op, Padding, Pool},
    limits::MAX_WINDOW,
};

pub(super) fn max_pool<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&[
        "auto_pad",
        "ceil_mode",
        "dilations",
        "kernel_shape",
        "pads",
        "storage_order",
        "strides",
    ])?;
    let input = import.data(source, 0)?;
    let pool = pool(source, false)?;
    import.push(source.name, Op::MaxPool(pool), vec![input])
}

pub(super) fn average_pool<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&[
        "auto_pad",
        "ceil_mode",
        "count_include_pad",
        "dilations",
        "kernel_shape",
        "pads",
        "strides",
    ])?;
    let input = import.data(source, 0)?;
    let pool = pool(source, source.flag("count_include_pad", false)?)?;
    import.push(source.name, Op::AveragePool(pool), vec![input])
}

fn pool(source: Source<'_>, count_include_pad: bool) -> Result<Pool, Refusal> {
    if !source.has("kernel_shape") {
        return unsupported("no kernel_shape");
    }
    let dilation = source.sizes("dilations", [1, 1])?;
    if dilation != [1, 1] {
        return unsupported(format!("dilations {dilation:?}"));
    }
    Ok(Pool {
        kernel: source.sizes("kernel_shape", [0; 2])?,
        stride: source.sizes("strides", [1, 1])?,
        padding: padding(source)?,
        ceil: source.flag("ceil_mode", false)?,
        count_include_pad,
    })
}

pub(super) fn global_average_pool<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.view(source, 0)?;
    let axes: Vec<usize> = (2..input.rank()).collect();
    match input.averaged(&axes, true) {
        Some(averaged) => import.push_on(source, Op::GlobalAveragePool, &averaged),
        None => unsupported(format!("of {}: expected a map, channels first", input.describe())),
    }
}

/// Converts `ReduceSum`. The axes are an attribute before opset 13, and an input since.
pub(super) fn reduce_sum<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let view = import.view(source, 0)?;
    let axes = match source.ints("axes") {
        Some(axes) => axes.to_vec(),
        None => import.integers(source, 1)?.unwrap_or_default(),
    };
    let keep = source.flag("keepdims", true)?;
    match normalise(&axes, view.rank()).as_deref() {
        Some(&[axis]) if axis > 0 => norms::sum(import, source, &view, axis, keep),
        _ => unsupported(format!(
            "over axes {axes:?} of {}: expected a part of the channels",
            view.describe()
        )),
    }
}

/// Converts `ReduceMean`. The axes are an attribute before opset 18, and an input since.
pub(super) fn reduce_mean<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let value = import.value(source, 0)?;
    let axes = match source.ints("axes") {
        Some(axes) => Some(axes.to_vec()),
        None => import.integers(source, 1)?,
    };
    let axes = axes.filter(|axes| !axes.is_empty());
    if axes.is_none() && source.flag("noop_with_empty_axes", false)? {
        return Ok(value);
    }
    let keep = source.flag("keepdims", true)?;
    if let Value::Tensor(tensor) = value {
        let rank = tensor.shape().len();
        let axes = axes.map_or_else(|| Some((0..rank).collect()), |axes| normalise(&axes, rank));
        return match axes {
            Some(axes) => standardised::mean(import, &tensor, &axes, keep),
            None => unsupported(format!("over other axes than a constant {:?} has", tensor.shape())),
        };
    }
    let input = import.view(source, 0)?;
    let normal = axes.as_deref().and_then(|axes| normalise(axes, input.rank()));
    if let Some(value) = line_mean(import, source, &input, normal.as_deref(), keep)? {
        return Ok(value);
    }
    let Some(averaged) = normal.and_then(|axes| input.averaged(&axes, keep)) else {
        let axes = axes.map_or_else(|| "all axes".to_owned(), |axes| format!("axes {axes:?}"));
        return unsupported(format!(
            "over {axes} of {}: expected height and width of a map",
            input.describe()
        ));
    };
    if averaged.rank() > 2 || matches!(import.shape(input.value), Shape::Vector(_)) {
        return import.push_on(source, Op::GlobalAveragePool, &averaged);
    }
    let pooled = import.push_helper(source, "pool", Op::GlobalAveragePool, vec![input.value])?;
    match pooled {
        Value::Data(pooled) => import.push(source.name, Op::Flatten, vec![pooled]),
        other => Ok(other),
    }
}

/// Adds a mean over only the rows or only the columns, as a pool with a window of one line.
fn line_mean<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    input: &View,
    axes: Option<&[usize]>,
    keep: bool,
) -> Result<Option<Value>, Refusal> {
    let (Some(axes), Shape::Map([_, height, width])) = (axes, import.shape(input.value)) else {
        return Ok(None);
    };
    if height == 1 || width == 1 {
        return Ok(None);
    }
    for (part, kernel) in [(Part::Rows, [height, 1]), (Part::Columns, [1, width])] {
        let Some(view) = input
            .reduced(axes, &[part], keep)
            .filter(|_| kernel.iter().all(|&side| side <= MAX_WINDOW))
        else {
            continue;
        };
        let pool = Pool {
            kernel,
            stride: [1, 1],
            padding: Padding::Explicit([0; 4]),
            ceil: false,
            count_include_pad: false,
        };
        return import.push_on(source, Op::AveragePool(pool), &view).map(Some);
    }
    Ok(None)
}
