//! Flatten, Reshape, Squeeze, Unsqueeze: between maps and vectors, between layouts, or of constants.

use super::super::{
    Import,
    attributes::Source,
    folding::MAX_RANK,
    value::{Converted, Dim, Refusal, Value, unsupported},
};
use crate::Tensor;

pub(super) fn flatten<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    let input = import.view(source, 0)?;
    let axis = source.int("axis", 1)?;
    let dims = input.dims();
    let length = dims.iter().fold(1_usize, |product, &dim| product.saturating_mul(dim));
    if (axis == 1 || axis == -(dims.len() as i64))
        && let Some(value) = import.resized(source, &input, &[length])?
    {
        return Ok(value);
    }
    unsupported(format!("axis {axis} of {}: expected the batch to stay", sizes(&dims)))
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
        Value::Data(_) | Value::View(_) => reshape_data(import, source, &target),
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

fn reshape_data<'a>(import: &mut Import<'a>, source: Source<'a>, target: &[Dim]) -> Converted {
    let input = import.view(source, 0)?;
    let own = input.dims();
    let fail = || {
        let dim = target.iter().map(|dim| match dim {
            Dim::Batch(1) => "N".to_owned(),
            Dim::Batch(times) => format!("{times}·N"),
            Dim::Known(value) => value.to_string(),
        });
        unsupported(format!(
            "of {} to [{}]: expected [N, -1] or no change",
            sizes(&own),
            dim.collect::<Vec<_>>().join(", ")
        ))
    };
    let Some((&first, rest)) = target.split_first() else {
        return fail();
    };
    let batch_inferred = match first {
        Dim::Batch(1) | Dim::Known(0) => false,
        Dim::Known(-1) => true,
        Dim::Known(value) if Some(value) == import.batch => false,
        Dim::Batch(_) | Dim::Known(_) => return fail(),
    };
    let elements = own.iter().fold(1_usize, |product, &dim| product.saturating_mul(dim));
    let mut wanted = Vec::with_capacity(rest.len());
    let mut inferred = None;
    for (place, &dim) in rest.iter().enumerate() {
        wanted.push(match dim {
            Dim::Known(-1) if inferred.is_none() && !batch_inferred => {
                inferred = Some(place);
                1
            }
            Dim::Known(0) if place < own.len() => own[place],
            Dim::Known(value) if value > 0 => value as usize,
            _ => return fail(),
        });
    }
    let product = wanted
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size));
    match (product, inferred) {
        (Some(product), Some(place)) if product > 0 && elements.is_multiple_of(product) => {
            wanted[place] = elements / product;
        }
        (Some(product), None) if product == elements => {}
        _ => return fail(),
    }
    match import.resized(source, &input, &wanted)? {
        Some(value) => Ok(value),
        None => fail(),
    }
}

/// Returns the sizes after the batch as text, for messages.
fn sizes(dims: &[usize]) -> String {
    dims.iter().fold("[N".to_owned(), |text, dim| format!("{text}, {dim}")) + "]"
}

/// Returns the new shape of a constant with the shape `dims`.
fn constant_target(dims: &[usize], target: &[Dim]) -> Result<Vec<usize>, Refusal> {
    if target.len() > MAX_RANK {
        return unsupported(format!("of a constant to {} axes: at most {MAX_RANK}", target.len()));
    }
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

/// Returns the axes of a Squeeze or Unsqueeze. They are an attribute before opset 13, and an input since.
fn axes<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Option<Vec<i64>>, Refusal> {
    source.allow(&["axes"])?;
    match source.ints("axes") {
        Some(axes) => Ok(Some(axes.to_vec())),
        None => import.integers(source, 1),
    }
}

/// Returns axes counted from the front of `rank`, sorted; `None` if one is out of range or repeated.
pub(in super::super) fn normalise(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    if rank > MAX_RANK {
        return None;
    }
    let mut normal = Vec::new();
    for &axis in axes {
        let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
        normal.push(usize::try_from(axis).ok().filter(|&axis| axis < rank)?);
    }
    normal.sort_unstable();
    normal.windows(2).all(|pair| pair[0] < pair[1]).then_some(normal)
}

/// Returns `dims` without the sizes at `axes`.
fn without(dims: &[usize], axes: &[usize]) -> Vec<usize> {
    let kept = dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    kept.map(|(_, &dim)| dim).collect()
}

pub(super) fn squeeze<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let axes = axes(import, source)?;
    let input = import.value(source, 0)?;
    let squeezed = |dims: &[usize]| {
        let axes = match &axes {
            Some(axes) => normalise(axes, dims.len())?,
            None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
        };
        axes.iter().all(|&axis| dims[axis] == 1).then(|| without(dims, &axes))
    };
    let refuse = || unsupported(format!("axes {axes:?}: expected height and width of a 1×1 map"));
    match input {
        Value::Data(_) | Value::View(_) => {
            let view = import.view(source, 0)?;
            let dims = view.dims();
            let rest = match &axes {
                // The axes come after the batch, which stays.
                Some(axes) => normalise(axes, view.rank()).and_then(|axes| {
                    let after = |axis: &usize| axis.checked_sub(1).filter(|&axis| dims[axis] == 1);
                    let squeezed: Option<Vec<usize>> = axes.iter().map(after).collect();
                    squeezed.map(|squeezed| without(&dims, &squeezed))
                }),
                // Without axes, a batch of one would be removed too. This is only accepted if the exporter meant height
                // and width.
                None => Some(dims.iter().copied().filter(|&dim| dim != 1).collect())
                    .filter(|rest: &Vec<usize>| rest.len() == 1 && import.batch != Some(1)),
            };
            match rest {
                Some(rest) if !rest.is_empty() => import.resized(source, &view, &rest)?.map_or_else(refuse, Ok),
                _ => refuse(),
            }
        }
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
    let refuse = || unsupported(format!("axes {axes:?}: expected axes after the batch"));
    match import.value(source, 0)? {
        Value::Data(_) | Value::View(_) => {
            let view = import.view(source, 0)?;
            // The batch stays in front.
            let dims = [1].into_iter().chain(view.dims()).collect::<Vec<_>>();
            let first = normalise(&axes, dims.len() + axes.len()).and_then(|axes| axes.first().copied());
            match unsqueezed(&dims) {
                Some(dims) if first > Some(0) => import.resized(source, &view, &dims[1..])?.map_or_else(refuse, Ok),
                _ => refuse(),
            }
        }
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
