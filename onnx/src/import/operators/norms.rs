//! Normalisations whose statistics depend on the image: `LayerNormalization`, `InstanceNormalization`,
//! `GroupNormalization`.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Refusal, Value, unsupported},
        view::View,
    },
    shapes::place,
};
use crate::{Shape, Tensor, graph::Op};

/// Normalises over the last axes: over one axis for the channels of each pixel or for a vector; over all axes after the
/// batch for a single group.
pub(super) fn layer_norm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis", "epsilon", "stash_type"])?;
    let view = import.view(source, 0)?;
    let epsilon = source.float("epsilon", 1e-5)?;
    let axis = place(source.int("axis", -1)?, view.rank());
    if axis + 1 != view.rank() as i64 {
        return unsupported(format!(
            "over the axes from {axis} of {}: expected the last one",
            view.describe()
        ));
    }
    let shape = import.shape(view.value);
    let channels = match shape {
        Shape::Map(_) => view.is_channels(view.rank() - 1),
        Shape::Vector(_) => view.rank() == 2,
    };
    if !channels {
        return unsupported(format!(
            "over the last axis of {}: expected the channels",
            view.describe()
        ));
    }
    let scale = parameter(import, source, &view, 1, 1.0)?;
    let bias = parameter(import, source, &view, 2, 0.0)?;
    import.push_on(source, Op::LayerNorm { scale, bias, epsilon }, &view)
}

/// Returns input `index` as one value per channel; `default` for all channels if the node does not have it.
fn parameter<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    view: &View,
    index: usize,
    default: f32,
) -> Result<Tensor, Refusal> {
    let shape = import.shape(view.value);
    if source.input(index).is_some() {
        return view.per_channel(&import.tensor(source, index)?, shape);
    }
    let channels = shape.channels();
    import.budget.make(channels)?;
    Ok(Tensor::new([channels], vec![default; channels]))
}

/// Normalises each channel as a group.
pub(super) fn instance_norm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["consumed_inputs", "epsilon"])?;
    let view = import.view(source, 0)?;
    let (scale, bias) = (import.tensor(source, 1)?, import.tensor(source, 2)?);
    let groups = view.dims().first().copied().unwrap_or(0);
    let spread = |tensor: &Tensor| match tensor.data() {
        &[value] => Tensor::new([1, 1], vec![value]),
        _ => Tensor::new(
            [tensor.data().len()]
                .into_iter()
                .chain(vec![1; view.rank().saturating_sub(2)])
                .collect::<Vec<_>>(),
            tensor.shared(),
        ),
    };
    let (scale, bias) = (spread(&scale), spread(&bias));
    grouped(import, source, &view, groups, [&scale, &bias])
}

/// Converts `GroupNormalization`. Scale and bias are per group in opset 18, and per channel since opset 21.
pub(super) fn group_norm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["epsilon", "num_groups", "stash_type"])?;
    let view = import.view(source, 0)?;
    let groups = usize::try_from(source.int("num_groups", 0)?).unwrap_or(0);
    let channels = view.dims().first().copied().unwrap_or(0);
    if groups == 0 || !channels.is_multiple_of(groups) || view.rank() < 3 {
        return unsupported(format!("{groups} groups of {}", view.describe()));
    }
    let mut vector = |index: usize| -> Result<Tensor, Refusal> {
        let tensor = import.tensor(source, index)?;
        let values: Vec<f32> = match tensor.data().len() {
            length if length == channels => tensor.data().to_vec(),
            length if length == groups => (0..channels)
                .map(|channel| tensor.data()[channel / (channels / groups)])
                .collect(),
            length => {
                return unsupported(format!(
                    "{length} parameters for {channels} channels in {groups} groups"
                ));
            }
        };
        let dims: Vec<usize> = [channels].into_iter().chain(vec![1; view.rank() - 2]).collect();
        Ok(Tensor::new(dims, values))
    };
    let (scale, bias) = (vector(1)?, vector(2)?);
    grouped(import, source, &view, groups, [&scale, &bias])
}

/// Adds a norm over each of the `groups` into which the first axis of `view` is divided, together with all later axes.
fn grouped<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    view: &View,
    groups: usize,
    [scale, bias]: [&Tensor; 2],
) -> Converted {
    let shape = import.shape(view.value);
    let fits = view
        .groups(1, shape)
        .is_some_and(|length| length.is_multiple_of(groups));
    if !fits || !matches!(shape, Shape::Map(_)) {
        return unsupported(format!("of {}: expected groups of channels", view.describe()));
    }
    let op = Op::GroupNorm {
        groups,
        scale: view.per_channel(scale, shape)?,
        bias: view.per_channel(bias, shape)?,
        epsilon: source.float("epsilon", 1e-5)?,
    };
    import.push_on(source, op, view)
}

/// Converts a Softmax over the slowest-varying part of the channels.
pub(super) fn softmax<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    if source.opset < 13 {
        return unsupported("expected opset 13 or later, where it is over one axis");
    }
    let view = import.view(source, 0)?;
    let axis = super::selection::axis_of(source.int("axis", -1)?, &view)?;
    let shape = import.shape(view.value);
    let pixel = shape.spatial().is_none_or(|size| size == [1, 1]);
    if !pixel {
        return unsupported(format!(
            "of {}: expected a vector or a map of one pixel",
            view.describe()
        ));
    }
    if let Some(groups) = view.groups(axis, shape) {
        return import.push_on(source, Op::Softmax { groups }, &view);
    }
    // The axis is another part of the channels, so these are moved to the front.
    let Some((index, view)) = view.fronted(axis, shape) else {
        return unsupported(format!("over axis {axis} of {}: expected channels", view.describe()));
    };
    let value = import.pushed_helper(source, "front", Op::GatherChannels { index: index.into() }, view.value)?;
    let view = view.on(value);
    match view.groups(axis, shape) {
        Some(groups) => import.push_on(source, Op::Softmax { groups }, &view),
        None => Err(Refusal::Tainted),
    }
}

/// Adds a sum over a part of the channels, as a sum of slices.
pub(super) fn sum<'a>(import: &mut Import<'a>, source: Source<'a>, view: &View, axis: usize, keep: bool) -> Converted {
    /// Maximum number of summed slices. No network has so many branches.
    const MOST: usize = 16;
    let length = view.dims().get(axis.wrapping_sub(1)).copied().unwrap_or(0);
    if !(1..=MOST).contains(&length) {
        return unsupported(format!(
            "over {length} values along axis {axis}: expected 1 to {MOST} groups of channels"
        ));
    }
    let shape = import.shape(view.value);
    let mut total: Option<View> = None;
    for place in 0..length {
        let Some((index, slice)) = view.selected(axis, &[place], shape) else {
            return unsupported(format!(
                "over axis {axis} of {}: expected a part of the channels",
                view.describe()
            ));
        };
        import.budget.make(index.len())?;
        let op = Op::GatherChannels { index: index.into() };
        let value = import.pushed_helper(source, &format!("slice{place}"), op, view.value)?;
        total = Some(match total {
            None => slice.on(value),
            Some(sum) => {
                let inputs = vec![sum.value, value];
                let last = place + 1 == length;
                let pushed = if last {
                    import.push(source.name, Op::Add, inputs)?
                } else {
                    import.push_helper(source, &format!("sum{place}"), Op::Add, inputs)?
                };
                let Some(value) = pushed.computed() else {
                    return Err(Refusal::Tainted);
                };
                sum.on(value)
            }
        });
    }
    let Some(total) = total else {
        return Err(Refusal::Tainted);
    };
    let total = if keep { total } else { total.without(axis) };
    let dims = total.dims();
    match import.resized(source, &total, &dims)? {
        Some(Value::View(view)) => Ok(import.settled(source, view)),
        Some(value) => Ok(value),
        None => unsupported(format!("of {}", view.describe())),
    }
}
