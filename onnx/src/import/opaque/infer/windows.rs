//! Shapes of convolutions, pools and resizing, for any number of spatial dimensions.

use super::{Dim, Info, Kind, Known, Node, front, known};

/// Returns whether this file infers the operator.
pub(super) fn is_known(operator: &str) -> bool {
    matches!(
        operator,
        "AveragePool"
            | "Conv"
            | "ConvTranspose"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "GridSample"
            | "MaxPool"
            | "Resize"
    )
}

pub(super) fn infer(node: &Node<'_>) -> Result<Info, String> {
    let input = node.input(0)?;
    let (Some(&batch), Some(&channels)) = (input.dims.first(), input.dims.get(1)) else {
        return Err(format!("of {} axes", input.dims.len()));
    };
    let spatial = || {
        input.dims[2..]
            .iter()
            .map(|&dim| known(dim))
            .collect::<Result<Vec<_>, _>>()
    };
    let operator = node.source.operator();
    let dims = match operator {
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let ones = vec![Dim::Known(1); input.dims.len() - 2];
            [vec![batch, channels], ones].concat()
        }
        "GridSample" => {
            let grid = &node.input(1)?.dims;
            [
                &[batch, channels],
                grid.get(1..grid.len().saturating_sub(1)).unwrap_or_default(),
            ]
            .concat()
        }
        "Resize" => resized(node, input)?,
        _ => {
            let pool = operator.ends_with("Pool");
            let weight = if pool { None } else { Some(node.input(1)?) };
            let kernel = match (node.source.ints("kernel_shape"), weight) {
                (Some(kernel), _) => kernel.to_vec(),
                (None, Some(weight)) => {
                    let sides = weight.dims.get(2..).unwrap_or_default();
                    sides.iter().map(|&dim| known(dim)).collect::<Result<_, _>>()?
                }
                (None, None) => return Err("no kernel_shape".to_owned()),
            };
            let sizes = window(node, &spatial()?, &kernel, operator == "ConvTranspose")?;
            if operator == "Conv"
                && let Some(weight) = weight
            {
                let own = known(*weight.dims.get(1).ok_or("weight without axes")?)?;
                let expected = own.saturating_mul(node.int("group", 1)?);
                if channels != Dim::Known(expected) {
                    return Err(format!("expected {expected} input channels, got {channels:?}"));
                }
            }
            let channels = match weight {
                None => channels,
                Some(weight) if operator == "Conv" => *weight.dims.first().ok_or("weight without axes")?,
                Some(weight) => {
                    let own = known(*weight.dims.get(1).ok_or("weight without axes")?)?;
                    Dim::Known(own.saturating_mul(node.int("group", 1)?))
                }
            };
            [vec![batch, channels], sizes.into_iter().map(Dim::Known).collect()].concat()
        }
    };
    Ok(Info::new(dims, Kind::Float))
}

fn window(node: &Node<'_>, sizes: &[i64], kernel: &[i64], transposed: bool) -> Result<Vec<i64>, String> {
    let rank = sizes.len();
    let list = |name: &str, default: i64, length: usize| -> Result<Vec<i64>, String> {
        let values = node
            .source
            .ints(name)
            .map_or_else(|| vec![default; length], <[i64]>::to_vec);
        (values.len() == length)
            .then_some(values)
            .ok_or_else(|| format!("attribute `{name}`"))
    };
    let (strides, dilations) = (list("strides", 1, rank)?, list("dilations", 1, rank)?);
    let pads = list("pads", 0, 2 * rank)?;
    let outer = list("output_padding", 0, rank)?;
    let auto = node.text("auto_pad", "NOTSET")?;
    let ceil = node.flag("ceil_mode", false)?;
    if kernel.len() != rank || strides.iter().any(|&stride| stride < 1) {
        return Err(format!(
            "a kernel {kernel:?} and strides {strides:?} for {rank} dimensions"
        ));
    }
    let side = |axis: usize| -> Option<i64> {
        let (size, stride) = (sizes[axis], strides[axis]);
        let reach = kernel[axis]
            .checked_sub(1)?
            .checked_mul(dilations[axis])?
            .checked_add(1)?;
        let padding = pads[axis].checked_add(pads[axis + rank])?;
        if transposed {
            return stride
                .checked_mul(size.checked_sub(1)?)?
                .checked_add(outer[axis])?
                .checked_add(reach)?
                .checked_sub(padding);
        }
        if auto.starts_with("SAME") {
            return Some(size.checked_add(stride - 1)? / stride);
        }
        let padding = if auto == "VALID" { 0 } else { padding };
        let room = size
            .checked_add(padding)?
            .checked_sub(reach)
            .filter(|&room| room >= 0)?;
        let count = if ceil {
            room.checked_add(stride - 1)? / stride
        } else {
            room / stride
        };
        let excess = ceil && count.saturating_mul(stride) >= size.saturating_add(pads[axis]);
        Some(count + 1 - i64::from(excess))
    };
    (0..rank)
        .map(|axis| {
            side(axis)
                .filter(|&size| size > 0)
                .ok_or_else(|| format!("a window {kernel:?} of {sizes:?}"))
        })
        .collect()
}

fn resized(node: &Node<'_>, input: &Info) -> Result<Vec<Dim>, String> {
    let rank = input.dims.len();
    let axes = match node.source.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|&axis| front(axis, rank))
            .collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    let mut dims = input.dims.clone();
    if let Some(sizes) = node.optional(3) {
        for (&axis, &size) in axes.iter().zip(sizes.sizes()?) {
            dims[axis] = size;
        }
        return Ok(dims);
    }
    let Some(Known::Floats(scales)) = node.optional(2).and_then(|scales| scales.known.as_ref()) else {
        return Err("expected sizes or scales that are known at import".to_owned());
    };
    for (&axis, &scale) in axes.iter().zip(scales) {
        if scale != 1.0 {
            dims[axis] = Dim::Known((known(dims[axis])? as f32 * scale).floor() as i64);
        }
    }
    Ok(dims)
}
