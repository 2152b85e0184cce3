//! Flatten, Reshape, Squeeze, Unsqueeze: between maps and vectors, or of constants.

use super::super::{
    Import,
    attributes::Source,
    value::{Converted, Dim, Refusal, Value, unsupported},
};
use crate::{
    Shape, Tensor,
    graph::{Op, ValueId},
};

pub(super) fn flatten<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    let input = import.data(source, 0)?;
    let axis = source.int("axis", 1)?;
    match (import.shape(input), axis) {
        (Shape::Map(_), 1 | -3) => import.push(source.name, Op::Flatten, vec![input]),
        (Shape::Vector(_), 1 | -1) => Ok(Value::Data(input)),
        (shape, _) => unsupported(format!("axis {axis} of {shape}: expected the batch to stay")),
    }
}

pub(super) fn reshape<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["allowzero"])?;
    let target = match import.value(source, 1)? {
        Value::Integers { values, .. } => values,
        other => return unsupported(format!("shape: expected integers, got {}", other.describe())),
    };
    if source.flag("allowzero", false)? && target.contains(&Dim::Known(0)) {
        return unsupported("a dimension of 0 (allowzero)");
    }
    match import.value(source, 0)? {
        Value::Data(input) => reshape_data(import, source, input, &target),
        Value::Tensor(tensor) => {
            let sizes = constant_target(tensor.shape(), &target)?;
            Ok(Value::Tensor(Tensor::new(sizes, tensor.shared())))
        }
        Value::Integers { dims, values } => Ok(Value::Integers {
            dims: constant_target(&dims, &target)?,
            values,
        }),
        other => unsupported(format!("of {}", other.describe())),
    }
}

fn reshape_data<'a>(import: &mut Import<'a>, source: Source<'a>, input: ValueId, target: &[Dim]) -> Converted {
    let shape = import.shape(input);
    let fail = || {
        let dim = target.iter().map(|dim| match dim {
            Dim::Batch => "N".to_owned(),
            Dim::Known(value) => value.to_string(),
        });
        unsupported(format!(
            "of {shape} to [{}]: expected [N, -1] or no change",
            dim.collect::<Vec<_>>().join(", ")
        ))
    };
    let Some((&first, rest)) = target.split_first() else {
        return fail();
    };
    let batch_inferred = match first {
        Dim::Batch | Dim::Known(0) => false,
        Dim::Known(-1) => true,
        Dim::Known(value) if Some(value) == import.batch => false,
        Dim::Known(_) => return fail(),
    };
    let elements = shape.elements();
    let mut sizes = Vec::with_capacity(rest.len());
    let mut inferred = None;
    for (place, &dim) in rest.iter().enumerate() {
        sizes.push(match dim {
            Dim::Known(-1) if inferred.is_none() && !batch_inferred => {
                inferred = Some(place);
                1
            }
            Dim::Known(0) if place < shape.dims().len() => shape.dims()[place],
            Dim::Known(value) if value > 0 => value as usize,
            _ => return fail(),
        });
    }
    let product = sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size));
    match (product, inferred) {
        (Some(product), Some(place)) if product > 0 && elements.is_multiple_of(product) => {
            sizes[place] = elements / product;
        }
        (Some(product), None) if product == elements => {}
        _ => return fail(),
    }
    match (shape, &sizes[..]) {
        (shape, sizes) if shape.dims() == sizes => Ok(Value::Data(input)),
        (Shape::Map(_), [_]) => import.push(source.name, Op::Flatten, vec![input]),
        (Shape::Vector(length), &[channels, 1, 1]) if channels == length => {
            import.push(source.name, Op::Unflatten, vec![input])
        }
        _ => fail(),
    }
}

/// The new shape of a constant of shape `dims`.
fn constant_target(dims: &[usize], target: &[Dim]) -> Result<Vec<usize>, Refusal> {
    let count: usize = dims.iter().product();
    let mut sizes = Vec::new();
    let mut inferred = None;
    for (place, &dim) in target.iter().enumerate() {
        sizes.push(match dim {
            Dim::Known(-1) if inferred.is_none() => {
                inferred = Some(place);
                1
            }
            Dim::Known(0) if place < dims.len() => dims[place],
            Dim::Known(value) if value > 0 => value as usize,
            _ => return unsupported("of a constant to a shape that is not known"),
        });
    }
    let product = sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size));
    match (product, inferred) {
        (Some(product), Some(place)) if product > 0 && count.is_multiple_of(product) => sizes[place] = count / product,
        (Some(product), None) if product == count => {}
        _ => return unsupported(format!("of a constant {dims:?} to {sizes:?}")),
    }
    Ok(sizes)
}

/// The axes of a Squeeze or Unsqueeze: an attribute before opset 13, an input since.
fn axes<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Option<Vec<i64>>, Refusal> {
    source.allow(&["axes"])?;
    match source.ints("axes") {
        Some(axes) => Ok(Some(axes.to_vec())),
        None => import.integers(source, 1),
    }
}

/// Axes counted from the front of `rank`, sorted; `None` if one is out of range or stands twice.
fn normalise(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let mut normal = Vec::new();
    for &axis in axes {
        let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
        normal.push(usize::try_from(axis).ok().filter(|&axis| axis < rank)?);
    }
    normal.sort_unstable();
    normal.windows(2).all(|pair| pair[0] < pair[1]).then_some(normal)
}

pub(super) fn squeeze<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let axes = axes(import, source)?;
    let input = import.value(source, 0)?;
    let squeezed = |dims: &[usize]| {
        let axes = match &axes {
            Some(axes) => normalise(axes, dims.len())?,
            None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
        };
        let rest = dims
            .iter()
            .enumerate()
            .filter(|(axis, _)| !axes.contains(axis))
            .map(|(_, &dim)| dim)
            .collect::<Vec<_>>();
        axes.iter().all(|&axis| dims[axis] == 1).then_some(rest)
    };
    let refuse = || unsupported(format!("axes {axes:?}: expected height and width of a 1×1 map"));
    match input {
        Value::Data(value) => match (import.shape(value), axes.as_deref().map(|axes| normalise(axes, 4))) {
            (Shape::Map([_, 1, 1]), Some(Some(axes))) if axes == [2, 3] => {
                import.push(source.name, Op::Flatten, vec![value])
            }
            // Without axes a batch of one would go too: only sensible where the exporter meant height and width.
            (Shape::Map([channels, 1, 1]), None) if channels > 1 && import.batch != Some(1) => {
                import.push(source.name, Op::Flatten, vec![value])
            }
            _ => refuse(),
        },
        Value::Integers { dims, values } => match squeezed(&dims) {
            Some(dims) => Ok(Value::Integers { dims, values }),
            None => refuse(),
        },
        Value::Tensor(tensor) => match squeezed(tensor.shape()) {
            Some(dims) => Ok(Value::Tensor(Tensor::new(dims, tensor.shared()))),
            None => refuse(),
        },
        other => unsupported(format!("of {}", other.describe())),
    }
}

pub(super) fn unsqueeze<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let Some(axes) = axes(import, source)? else {
        return unsupported("no axes");
    };
    let unsqueezed = |dims: &[usize]| {
        let rank = dims.len() + axes.len();
        let normal = normalise(&axes, rank)?;
        let mut rest = dims.iter();
        Some(
            (0..rank)
                .map(|axis| {
                    if normal.contains(&axis) {
                        1
                    } else {
                        rest.next().copied().unwrap_or(1)
                    }
                })
                .collect::<Vec<_>>(),
        )
    };
    let refuse = || unsupported(format!("axes {axes:?}: expected [2, 3] of a vector"));
    match import.value(source, 0)? {
        Value::Data(value) => match (import.shape(value), normalise(&axes, 4)) {
            (Shape::Vector(_), Some(axes)) if axes == [2, 3] => import.push(source.name, Op::Unflatten, vec![value]),
            _ => refuse(),
        },
        Value::Integers { dims, values } => match unsqueezed(&dims) {
            Some(dims) => Ok(Value::Integers { dims, values }),
            None => refuse(),
        },
        Value::Tensor(tensor) => match unsqueezed(tensor.shape()) {
            Some(dims) => Ok(Value::Tensor(Tensor::new(dims, tensor.shared()))),
            None => refuse(),
        },
        other => unsupported(format!("of {}", other.describe())),
    }
}
