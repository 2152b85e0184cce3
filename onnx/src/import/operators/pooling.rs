//! `MaxPool`, `AveragePool`, `GlobalAveragePool`, `ReduceMean` over height and width.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Refusal, Value, unsupported},
    },
    convolution::padding,
};
use crate::graph::{Op, Pool};

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
    let input = import.data(source, 0)?;
    import.push(source.name, Op::GlobalAveragePool, vec![input])
}

pub(super) fn reduce_mean<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let input = import.data(source, 0)?;
    let axes = match source.ints("axes") {
        Some(axes) => Some(axes.to_vec()),
        None => import.integers(source, 1)?,
    };
    let mut spatial: Vec<i64> = axes
        .iter()
        .flatten()
        .map(|&axis| if axis < 0 { axis + 4 } else { axis })
        .collect();
    spatial.sort_unstable();
    if spatial != [2, 3] || import.shape(input).spatial().is_none() {
        let axes = axes.map_or_else(|| "all axes".to_owned(), |axes| format!("axes {axes:?}"));
        return unsupported(format!(
            "over {axes} of {}: expected height and width of a map",
            import.shape(input)
        ));
    }
    if source.flag("keepdims", true)? {
        return import.push(source.name, Op::GlobalAveragePool, vec![input]);
    }
    let Value::Data(pooled) = import.push_helper(source, "pool", Op::GlobalAveragePool, vec![input])? else {
        return Err(Refusal::Tainted);
    };
    import.push(source.name, Op::Flatten, vec![pooled])
}
