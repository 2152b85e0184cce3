//! Shape arithmetic of exporters: Shape and Size, and Gather, Slice and Expand of constants.

use super::{
    super::{
        Import,
        attributes::Source,
        folding,
        value::{Converted, Dim, Refusal, Value, unsupported},
    },
    resize::nearest,
    selection,
};
use crate::{Shape, Tensor, graph::Op};

/// Returns an index into a list; a negative one counts from the end.
pub(super) fn place(index: i64, length: usize) -> i64 {
    if index < 0 {
        index.saturating_add(length as i64)
    } else {
        index
    }
}

/// Returns the sizes of a value, including the batch.
fn sizes<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Vec<Dim>, Refusal> {
    let known = |dims: &[usize]| dims.iter().map(|&dim| Dim::Known(dim as i64)).collect::<Vec<_>>();
    if let Some(Value::Foreign(foreign)) = source.input(0).and_then(|name| import.values.get(name)) {
        return Ok(foreign.dims.clone());
    }
    match import.value(source, 0)? {
        Value::Data(_) | Value::View(_) => {
            let batch = import
                .batch
                .filter(|&batch| batch > 0)
                .map_or(Dim::Batch(1), Dim::Known);
            let dims = import.view(source, 0)?.dims();
            Ok([batch].into_iter().chain(known(&dims)).collect())
        }
        Value::Tensor(tensor) => Ok(known(tensor.shape())),
        Value::Integers { dims, .. } => Ok(known(&dims)),
        other => unsupported(format!("of {}", other.describe())),
    }
}

pub(super) fn shape<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["start", "end"])?;
    let dims = sizes(import, source)?;
    let length = dims.len();
    let clamp = |index: i64| place(index, length).clamp(0, length as i64) as usize;
    let (start, end) = (clamp(source.int("start", 0)?), clamp(source.int("end", length as i64)?));
    let values = dims.get(start..end).unwrap_or_default().to_vec();
    Ok(Value::Integers {
        dims: vec![values.len()],
        values,
    })
}

pub(super) fn size<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let product = sizes(import, source)?
        .into_iter()
        .try_fold(1_i64, |product, dim| match dim {
            Dim::Known(size) => product.checked_mul(size),
            Dim::Batch(_) => None,
        });
    match product {
        Some(product) => Ok(Value::Integers {
            dims: vec![],
            values: vec![Dim::Known(product)],
        }),
        None => unsupported("depends on the batch"),
    }
}

/// Returns the sizes of a constant.
fn constant_dims(value: &Value) -> Result<&[usize], Refusal> {
    match value {
        Value::Tensor(tensor) => Ok(tensor.shape()),
        Value::Integers { dims, .. } => Ok(dims),
        other => unsupported(format!("of {}: expected a constant", other.describe())),
    }
}

pub(super) fn gather<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    let axis = source.int("axis", 0)?;
    let constant = import.value(source, 0)?;
    let index_dims = match import.value(source, 1)? {
        Value::Integers { dims, .. } => dims,
        other => return unsupported(format!("axis {axis}, indices {}", other.describe())),
    };
    let indices = import.integers(source, 1)?.unwrap_or_default();
    if constant.computed().is_some() {
        return selection::gather(import, source, axis, (&index_dims, &indices));
    }
    let dims = constant_dims(&constant)?.to_vec();
    let Some(axis) = usize::try_from(place(axis, dims.len()))
        .ok()
        .filter(|&axis| axis < dims.len())
    else {
        return unsupported(format!("axis {axis} of {dims:?}"));
    };
    let picked = indices.iter().map(|&index| {
        usize::try_from(place(index, dims[axis]))
            .ok()
            .filter(|&index| index < dims[axis])
    });
    let Some(picked) = picked.collect::<Option<Vec<_>>>() else {
        return unsupported(format!("indices {indices:?} of {} values", dims[axis]));
    };
    // Takes one slice per index, and then concatenates the slices.
    let strides = folding::strides(&dims);
    let (before, after) = (dims[..axis].to_vec(), dims[axis + 1..].to_vec());
    let (mut slice_dims, mut slice_strides) = (before.clone(), strides[..axis].to_vec());
    slice_dims.extend(&after);
    slice_strides.extend(&strides[axis + 1..]);
    let shape: Vec<usize> = before.iter().chain(&index_dims).chain(&after).copied().collect();
    if !before.iter().all(|&dim| dim == 1) && picked.len() != 1 {
        return unsupported(format!("of several indices along axis {axis} of a constant {dims:?}"));
    }
    let count = folding::elements(&shape).unwrap_or(usize::MAX);
    if matches!(constant, Value::Integers { .. }) && count > folding::MAX_INTEGERS {
        return unsupported(format!("makes {count} integers: at most {}", folding::MAX_INTEGERS));
    }
    let mut slices = Vec::with_capacity(picked.len());
    for index in picked {
        let base = index * strides[axis].unsigned_abs();
        slices.push(import.taken(&constant, slice_dims.clone(), base, &slice_strides)?);
    }
    stacked(slices, shape)
}

/// Stacks constants of the same kind into an array of `dims`.
pub(super) fn stacked(parts: Vec<Value>, dims: Vec<usize>) -> Converted {
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Value::Tensor(tensor) => floats.extend_from_slice(tensor.data()),
            Value::Integers { values, .. } => integers.extend(values),
            other => return unsupported(format!("of {}", other.describe())),
        }
    }
    let count = folding::elements(&dims);
    if count == Some(integers.len()) && floats.is_empty() && integers.len() <= folding::MAX_INTEGERS {
        Ok(Value::Integers { dims, values: integers })
    } else if count == Some(floats.len()) && integers.is_empty() {
        Ok(Value::Tensor(Tensor::new(dims, floats)))
    } else {
        unsupported(format!("of constants that make no {dims:?}"))
    }
}

/// Returns the start and the number of elements of a slice of `length` values.
fn span(start: i64, end: i64, step: i64, length: usize) -> Result<(usize, usize), Refusal> {
    let (start, end, last) = (place(start, length), place(end, length), length as i64 - 1);
    let (first, distance) = match step {
        0 => return unsupported("a step of 0"),
        1.. => {
            let first = start.clamp(0, length as i64);
            (first, end.clamp(0, length as i64) - first)
        }
        // Backwards: from the start, at most the last value, down to the end, which is excluded.
        _ => {
            let first = start.clamp(-1, last);
            (first, first - end.clamp(-1, last))
        }
    };
    let count = u64::try_from(distance).unwrap_or(0).div_ceil(step.unsigned_abs());
    Ok((first.max(0) as usize, count as usize))
}

/// Converts Slice. Starts and ends are attributes before opset 10, and inputs since.
pub(super) fn slice<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["starts", "ends", "axes"])?;
    let constant = import.value(source, 0)?;
    let computed = constant.computed().is_some();
    let mut dims = if computed {
        // The length of the batch axis is unknown, so it is set to a huge number. A slice is accepted if it keeps the
        // complete axis.
        let dims = import.view(source, 0)?.dims();
        [usize::MAX >> 1].into_iter().chain(dims).collect()
    } else {
        constant_dims(&constant)?.to_vec()
    };
    let whole = dims.clone();
    let mut given = |name: &str, index: usize| match source.ints(name) {
        Some(values) => Ok(Some(values.to_vec())),
        None => import.integers(source, index),
    };
    let (Some(starts), Some(ends)) = (given("starts", 1)?, given("ends", 2)?) else {
        return unsupported("expected starts and ends");
    };
    let axes = given("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = import.integers(source, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return unsupported(format!(
            "{} starts, {} ends, {} axes",
            starts.len(),
            ends.len(),
            axes.len()
        ));
    }
    let (mut base, mut strides) = (0, folding::strides(&dims));
    let mut picks = Vec::new();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let Some(axis) = usize::try_from(place(axis, dims.len()))
            .ok()
            .filter(|&axis| axis < dims.len())
        else {
            return unsupported(format!("axis {axis} of {dims:?}"));
        };
        let (start, count) = span(start, end, step, dims[axis])?;
        if computed && axis > 0 {
            let at = |index: usize| (start as i64 + index as i64 * step).max(0) as usize;
            picks.push((axis, (0..count).map(at).collect()));
        }
        base = start.saturating_mul(strides[axis].unsigned_abs()).saturating_add(base);
        dims[axis] = count;
        strides[axis] = match (count, isize::try_from(step)) {
            (2.., Ok(step)) => strides[axis].saturating_mul(step),
            _ => 0,
        };
    }
    if !computed {
        return import.taken(&constant, dims, base, &strides);
    }
    if dims[0] != whole[0] {
        return unsupported("of the batch");
    }
    if base == 0 && dims == whole && steps.iter().all(|&step| step == 1) {
        // Exporters may slice a tensor to the size that it already has.
        return Ok(constant);
    }
    let view = import.view(source, 0)?;
    let view = selection::select(import, source, view, picks, None)?;
    Ok(import.settled(source, view))
}

/// Expands a constant; a map of one pixel becomes the same value at every pixel.
pub(super) fn expand<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let constant = import.value(source, 0)?;
    if constant.computed().is_some() {
        return expand_data(import, source);
    }
    let Some(target) = import.integers(source, 1)? else {
        return unsupported("no shape");
    };
    let own = constant_dims(&constant)?;
    let target: Option<Vec<usize>> = target.iter().map(|&size| usize::try_from(size).ok()).collect();
    let Some(dims) = target.and_then(|target| folding::broadcast(own, &target)) else {
        return unsupported(format!(
            "of a constant {own:?} to a shape that it does not broadcast to"
        ));
    };
    let strides = folding::broadcast_strides(own, &dims);
    import.taken(&constant, dims, 0, &strides)
}

fn expand_data<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let view = import.view(source, 0)?;
    let target = match import.value(source, 1)? {
        Value::Integers { values, .. } => values,
        other => return unsupported(format!("to {}", other.describe())),
    };
    let own = view.dims();
    let Some((batch, target)) = target.split_first().filter(|(_, target)| target.len() == own.len()) else {
        return unsupported(format!("of {own:?} to another rank"));
    };
    let batch = match *batch {
        Dim::Batch(1) | Dim::Known(1) => true,
        Dim::Known(size) => Some(size) == import.batch,
        Dim::Batch(_) => false,
    };
    let sizes: Option<Vec<usize>> = own
        .iter()
        .zip(target)
        .map(|(&own, &dim)| match dim {
            Dim::Known(1) => Some(own),
            Dim::Known(size) => usize::try_from(size)
                .ok()
                .filter(|&size| size == own || own == 1 && size > 0),
            Dim::Batch(_) => None,
        })
        .collect();
    let Some(sizes) = sizes.filter(|_| batch) else {
        return unsupported(format!("of {own:?} to {target:?}"));
    };
    if sizes == own {
        return import.value(source, 0);
    }
    match (import.settled(source, view), import.view(source, 0)?.value, &sizes[..]) {
        (Value::Data(value), _, &[channels, height, width]) => match import.shape(value) {
            Shape::Map([own, 1, 1]) if own == channels => {
                import.push(source.name, Op::Resize(nearest([height, width])), vec![value])
            }
            shape => unsupported(format!("of {shape} to {sizes:?}: expected a map of one pixel")),
        },
        _ => unsupported(format!("of {own:?} to {sizes:?}")),
    }
}
