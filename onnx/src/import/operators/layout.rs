//! Transpose and Concat.

use super::{
    super::{
        Import,
        attributes::Source,
        folding,
        value::{Converted, Refusal, Value, unsupported},
        view::View,
    },
    shapes::stacked,
};
use crate::{
    Shape, Tensor,
    graph::{Op, ValueId},
};

/// Changes only the view of a computed value; transposes a constant immediately.
pub(super) fn transpose<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["perm"])?;
    let value = import.value(source, 0)?;
    let dims = match &value {
        Value::Data(_) | Value::View(_) => return rearranged(import, source),
        Value::Tensor(tensor) => tensor.shape().to_vec(),
        Value::Integers { dims, .. } => dims.clone(),
        other => return unsupported(format!("of {}", other.describe())),
    };
    let perm = permutation(source, dims.len());
    let axes: Option<Vec<usize>> = perm.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let Some(axes) = axes.filter(|axes| is_permutation(axes, dims.len())) else {
        return unsupported(format!("perm {perm:?} of a constant {dims:?}"));
    };
    let strides = folding::strides(&dims);
    let (dims, strides): (Vec<_>, Vec<_>) = axes.iter().map(|&axis| (dims[axis], strides[axis])).unzip();
    import.taken(&value, dims, 0, &strides)
}

/// Returns the attribute `perm`. If it is missing, returns the axes in reverse order.
fn permutation(source: Source<'_>, rank: usize) -> Vec<i64> {
    source
        .ints("perm")
        .map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec)
}

fn is_permutation(axes: &[usize], rank: usize) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank)
}

fn rearranged<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.view(source, 0)?;
    let perm = permutation(source, input.rank());
    match input.transposed(&perm) {
        Some(view) => {
            let view = import.unshuffled(source, view)?;
            Ok(import.settled(source, view))
        }
        None => unsupported(format!(
            "perm {perm:?} of a tensor of {} axes: expected the batch to stay in front",
            input.rank()
        )),
    }
}

pub(super) fn concat<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    let axis = source.int("axis", 1)?;
    let values = (0..source.proto.input.len())
        .map(|index| import.value(source, index))
        .collect::<Result<Vec<_>, Refusal>>()?;
    let data: Option<Vec<ValueId>> = values
        .iter()
        .map(|value| {
            if let Value::Data(value) = value {
                Some(*value)
            } else {
                None
            }
        })
        .collect();
    if let Some(inputs) = data.filter(|inputs| !inputs.is_empty()) {
        let rank = import.shape(inputs[0]).dims().len() as i64 + 1;
        if axis != 1 && axis != 1 - rank {
            return unsupported(format!("axis {axis}: expected the channels"));
        }
        // With one input, there is nothing to do.
        return if let [input] = inputs[..] {
            Ok(Value::Data(input))
        } else {
            import.push(source.name, Op::Concat, inputs)
        };
    }
    if !values.is_empty() && values.iter().all(|value| value.computed().is_some()) {
        let views = (0..values.len()).map(|index| import.view(source, index));
        let views = views.collect::<Result<Vec<_>, Refusal>>()?;
        return rearranged_concat(import, source, &views, axis);
    }
    constants(import, values, axis)
}

/// Concatenates values along the channels, wherever these are in their layouts.
fn rearranged_concat<'a>(import: &mut Import<'a>, source: Source<'a>, views: &[View], axis: i64) -> Converted {
    let first = &views[0];
    let rank = first.rank() as i64;
    let place = usize::try_from(if axis < 0 { axis.saturating_add(rank) } else { axis });
    let shapes: Vec<Shape> = views.iter().map(|view| import.shape(view.value)).collect();
    let view = match place
        .ok()
        .map_or(Err(first), |place| View::concatenated(views, place, &shapes))
    {
        Ok(view) => view,
        Err(stranger) => {
            return unsupported(format!(
                "along axis {axis}, which is not the channels of all inputs: one is {}",
                stranger.describe()
            ));
        }
    };
    if let [_] = views {
        return Ok(import.settled(source, view));
    }
    let inputs = views.iter().map(|view| view.value).collect();
    let value = import.push(source.name, Op::Concat, inputs)?;
    import.arranged(source, &value, &view)
}

/// Concatenates constants: integers along their only axis, floats along the first.
fn constants(import: &mut Import<'_>, values: Vec<Value>, axis: i64) -> Converted {
    let shapes: Option<Vec<&[usize]>> = values
        .iter()
        .map(|value| match value {
            Value::Tensor(tensor) => Some(tensor.shape()),
            Value::Integers { dims, .. } => Some(&dims[..]),
            _ => None,
        })
        .collect();
    let Some(shapes) = shapes.filter(|shapes| !shapes.is_empty()) else {
        let other = values
            .iter()
            .find(|value| !matches!(value, Value::Tensor(_) | Value::Integers { .. }));
        return unsupported(format!(
            "of {} along axis {axis}",
            other.map_or("nothing", Value::describe)
        ));
    };
    let first = shapes[0];
    let front = axis == 0 || axis == -(first.len() as i64);
    let alike = shapes
        .iter()
        .all(|shape| !shape.is_empty() && shape.len() == first.len() && shape[1..] == first[1..]);
    if !front || !alike {
        return unsupported(format!(
            "of constants {shapes:?} along axis {axis}: expected the first axis"
        ));
    }
    let length = shapes.iter().fold(0_usize, |sum, shape| sum.saturating_add(shape[0]));
    let dims: Vec<usize> = [length].into_iter().chain(first[1..].iter().copied()).collect();
    import.budget.make(folding::elements(&dims).unwrap_or(usize::MAX))?;
    stacked(values, dims)
}

/// Returns the transpose of a matrix.
pub(super) fn transposed(tensor: &Tensor) -> Tensor {
    let &[rows, columns] = tensor.shape() else {
        return tensor.clone();
    };
    let data = tensor.data();
    let values: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| data[row * columns + column]))
        .collect();
    Tensor::new([columns, rows], values)
}
