//! Split, and Slice and Gather of computed values: selections of channels, rows and columns.

use super::{
    super::{
        Import,
        attributes::Source,
        folding,
        value::{Converted, Refusal, Value, unsupported},
        view::{Part, View},
    },
    shapes::place,
};
use crate::{
    Shape,
    graph::{Op, ValueId},
};

/// An axis (counted with the batch) and the selected indices along it.
pub(super) type Picked = (usize, Vec<usize>);

/// A rectangle of a map: start, size and step of the rows and columns.
type Rectangle = [[usize; 2]; 3];

/// Returns the selected parts of `view`. `part` distinguishes several selections of the same node.
pub(super) fn select<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    mut view: View,
    picks: Vec<Picked>,
    part: Option<usize>,
) -> Result<View, Refusal> {
    let mut rectangle: Option<Rectangle> = None;
    for (axis, picked) in picks {
        let dims = view.dims();
        let length = axis
            .checked_sub(1)
            .and_then(|axis| dims.get(axis))
            .copied()
            .unwrap_or(0);
        if picked.iter().copied().eq(0..length) {
            continue;
        }
        if picked.is_empty() {
            return unsupported(format!("takes nothing of axis {axis}"));
        }
        let shape = import.shape(view.value);
        let side = match (view.part(axis), shape) {
            (Some(Part::Rows), Shape::Map(_)) => Some(0),
            (Some(Part::Columns), Shape::Map(_)) => Some(1),
            _ => None,
        };
        if let (Some(side), Shape::Map([_, height, width])) = (side, shape) {
            let step = picked.get(1).map_or(1, |second| second.saturating_sub(picked[0]));
            if step == 0
                || !picked
                    .iter()
                    .enumerate()
                    .all(|(index, &at)| at == picked[0] + index * step)
            {
                return unsupported(format!("of rows or columns {picked:?}: expected steps of one size"));
            }
            let [start, size, steps] = rectangle.get_or_insert([[0; 2], [height, width], [1; 2]]);
            (start[side], size[side], steps[side]) = (picked[0], picked.len(), step);
            continue;
        }
        let Some((index, selected)) = view.selected(axis, &picked, shape) else {
            return unsupported(format!("along axis {axis} of {}", view.describe()));
        };
        import.budget.make(index.len())?;
        let op = Op::GatherChannels { index: index.into() };
        let value = pushed(import, source, op, &view, part)?;
        view = selected.on(value);
    }
    if let Some([start, size, step]) = rectangle {
        let value = pushed(import, source, Op::Crop { start, size, step }, &view, part)?;
        let Some(cropped) = view.of(value, import.shape(value)) else {
            return unsupported(format!("of {}", view.describe()));
        };
        view = cropped;
    }
    Ok(view)
}

/// Adds a node on the value of a view. It gets the name of the file's node if this name is still free.
fn pushed<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    op: Op,
    view: &View,
    part: Option<usize>,
) -> Result<ValueId, Refusal> {
    let taken = import.nodes.last().is_some_and(|node| node.name == source.name);
    let value = match part {
        None | Some(0) if !taken => import.push(source.name, op, vec![view.value])?,
        _ => {
            let suffix = part.map_or_else(|| "part".to_owned(), |part| part.to_string());
            import.push_helper(source, &suffix, op, vec![view.value])?
        }
    };
    value.computed().ok_or(Refusal::Tainted)
}

/// Returns an axis of a view, counted from the front and with the batch.
pub(super) fn axis_of(axis: i64, view: &View) -> Result<usize, Refusal> {
    match usize::try_from(place(axis, view.rank())) {
        Ok(axis) if (1..view.rank()).contains(&axis) => Ok(axis),
        _ => unsupported(format!(
            "along axis {axis} of {} axes: expected an axis after the batch",
            view.rank()
        )),
    }
}

/// Returns the first part.
pub(super) fn first_part<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    split(import, source)?.into_iter().next().ok_or(Refusal::Tainted)
}

/// Returns the values of all outputs.
pub(in super::super) fn split<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Vec<Value>, Refusal> {
    source.allow(&["axis", "split", "num_outputs"])?;
    let axis = source.int("axis", 0)?;
    let whole = import.value(source, 0)?;
    let outputs = source.proto.output.len();
    let dims = match &whole {
        Value::Tensor(tensor) => tensor.shape().to_vec(),
        Value::Integers { dims, .. } => dims.clone(),
        _ => [1].into_iter().chain(import.view(source, 0)?.dims()).collect(),
    };
    let Some(place) = usize::try_from(place(axis, dims.len()))
        .ok()
        .filter(|&axis| axis < dims.len())
    else {
        return unsupported(format!("along axis {axis} of {dims:?}"));
    };
    let length = dims[place];
    let given = match source.ints("split") {
        Some(sizes) => Some(sizes.to_vec()),
        None => import.integers(source, 1)?,
    };
    // Without sizes, the parts are equal, except that the last may be smaller.
    let equal = || {
        let size = length.div_ceil(outputs.max(1));
        (0..outputs)
            .map(|output| size.min(length.saturating_sub(output.saturating_mul(size))))
            .collect()
    };
    let sizes: Vec<usize> = given.map_or_else(equal, |sizes| {
        sizes
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(usize::MAX))
            .collect()
    });
    let total = sizes.iter().fold(0_usize, |sum, &size| sum.saturating_add(size));
    if total != length || sizes.len() != outputs {
        return unsupported(format!("into {sizes:?} of {length} by {outputs} outputs"));
    }
    let mut first = 0;
    let mut parts = Vec::with_capacity(outputs);
    for (part, size) in sizes.into_iter().enumerate() {
        let picked = (first..first + size).collect();
        let value = if whole.computed().is_some() {
            let view = import.view(source, 0)?;
            let view = select(import, source, view, vec![(place, picked)], Some(part))?;
            import.settled(source, view)
        } else {
            let strides = folding::strides(&dims);
            let mut own = dims.clone();
            own[place] = size;
            import.taken(&whole, own, first * strides[place].unsigned_abs(), &strides)?
        };
        parts.push(value);
        first += size;
    }
    Ok(parts)
}

/// Converts a Gather of a computed value along an axis.
pub(super) fn gather<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    axis: i64,
    (index_dims, indices): (&[usize], &[i64]),
) -> Converted {
    let view = import.view(source, 0)?;
    let axis = axis_of(axis, &view)?;
    let length = view.dims()[axis - 1];
    let picked: Option<Vec<usize>> = indices
        .iter()
        .map(|&index| {
            usize::try_from(place(index, length))
                .ok()
                .filter(|&index| index < length)
        })
        .collect();
    let Some(picked) = picked else {
        return unsupported(format!("indices {indices:?} of {length} values"));
    };
    match index_dims.len() {
        0 => {
            let view = select(import, source, view, vec![(axis, picked)], None)?.without(axis);
            let dims = view.dims();
            let kept = import.resized(source, &view, &dims)?;
            kept.map_or_else(|| unsupported("of one place"), Ok)
        }
        1 => {
            let view = select(import, source, view, vec![(axis, picked)], None)?;
            Ok(import.settled(source, view))
        }
        _ => unsupported(format!("indices of shape {index_dims:?}")),
    }
}
