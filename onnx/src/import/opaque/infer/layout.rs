//! Shapes of operators that move, select, count or reduce elements.

use super::{Dim, Info, Kind, Node, broadcast, front, known, product, quotient, within_images};
use crate::import::operators::normalise;

/// Returns whether this file infers the operator.
pub(super) fn is_known(operator: &str) -> bool {
    matches!(
        operator,
        "ArgMax"
            | "ArgMin"
            | "Concat"
            | "Constant"
            | "ConstantOfShape"
            | "DepthToSpace"
            | "Expand"
            | "EyeLike"
            | "Flatten"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "OneHot"
            | "Pad"
            | "Range"
            | "ReduceL1"
            | "ReduceL2"
            | "ReduceLogSum"
            | "ReduceLogSumExp"
            | "ReduceMax"
            | "ReduceMean"
            | "ReduceMin"
            | "ReduceProd"
            | "ReduceSum"
            | "ReduceSumSquare"
            | "Reshape"
            | "Shape"
            | "Size"
            | "Slice"
            | "SpaceToDepth"
            | "Split"
            | "Squeeze"
            | "Tile"
            | "TopK"
            | "Transpose"
            | "Unsqueeze"
    )
}

pub(super) fn infer(node: &Node<'_>) -> Result<Vec<Info>, String> {
    let one = |dims: Vec<Dim>, kind: Kind| Ok(vec![Info::new(dims, kind)]);
    let operator = node.source.operator();
    match operator {
        "Shape" => one(vec![Dim::Known(node.input(0)?.dims.len() as i64)], Kind::Integer),
        "Size" => one(vec![], Kind::Integer),
        "Constant" => Err("a constant that is not read".to_owned()),
        "ConstantOfShape" => {
            let dims = node.input(0)?.sizes()?.to_vec();
            let kind = node
                .source
                .tensor("value")
                .map_or(Kind::Float, |value| match value.data_type {
                    Some(super::TensorProto::INT64 | super::TensorProto::INT32) => Kind::Integer,
                    Some(super::super::super::constant::BOOL) => Kind::Bool,
                    _ => Kind::Float,
                });
            one(dims, kind)
        }
        "EyeLike" | "GatherElements" => {
            let index = usize::from(operator == "GatherElements");
            one(node.input(index)?.dims.clone(), node.input(0)?.kind)
        }
        "Range" => range(node),
        "Split" => split(node),
        "TopK" => top(node),
        _ => {
            let input = node.input(0)?;
            let dims = if operator.starts_with("Reduce") || operator.starts_with("Arg") {
                reduced(node, input)?
            } else {
                moved(node, input)?
            };
            let kind = match operator {
                "ArgMax" | "ArgMin" => Kind::Integer,
                "OneHot" => node.input(2)?.kind,
                _ => input.kind,
            };
            one(dims, kind)
        }
    }
}

fn moved(node: &Node<'_>, input: &Info) -> Result<Vec<Dim>, String> {
    let (dims, rank) = (&input.dims, input.dims.len());
    Ok(match node.source.operator() {
        "Transpose" => {
            let reversed = || (0..rank as i64).rev().collect();
            let perm: Vec<i64> = node.source.ints("perm").map_or_else(reversed, <[i64]>::to_vec);
            let picked = perm.iter().map(|&axis| front(axis, rank).map(|axis| dims[axis]));
            picked.collect::<Result<_, _>>()?
        }
        "Reshape" => reshaped(node, dims)?,
        "Flatten" => {
            let axis = node.int("axis", 1)?;
            let axis = if axis == rank as i64 { rank } else { front(axis, rank)? };
            vec![product(&dims[..axis])?, product(&dims[axis..])?]
        }
        "Squeeze" => {
            let axes = match node.ints("axes", 1)? {
                Some(axes) => normalise(&axes, rank).ok_or_else(|| format!("axes {axes:?}"))?,
                None => (0..rank).filter(|&axis| dims[axis] == Dim::Known(1)).collect(),
            };
            let kept = (0..rank).filter(|axis| !axes.contains(axis));
            kept.map(|axis| dims[axis]).collect()
        }
        "Unsqueeze" => {
            let axes = node.ints("axes", 1)?.ok_or("no axes")?;
            let rank = rank + axes.len();
            let axes = normalise(&axes, rank).ok_or_else(|| format!("axes {axes:?}"))?;
            let mut rest = dims.iter();
            let dim = |axis| {
                if axes.contains(&axis) {
                    Some(Dim::Known(1))
                } else {
                    rest.next().copied()
                }
            };
            (0..rank)
                .map(dim)
                .collect::<Option<_>>()
                .ok_or("more axes than sizes")?
        }
        "Concat" => {
            let axis = front(node.int("axis", 0)?, rank)?;
            let mut result = dims.clone();
            for other in node.inputs.iter().flatten().skip(1) {
                let size = *other.dims.get(axis).ok_or("inputs of different ranks")?;
                result[axis] = match (result[axis], size) {
                    (Dim::Known(left), Dim::Known(right)) => left.checked_add(right).map(Dim::Known),
                    (Dim::Batch(left), Dim::Batch(right)) => left.checked_add(right).map(Dim::Batch),
                    _ => None,
                }
                .ok_or("sizes that depend on the batch next to others")?;
            }
            result
        }
        "Expand" => broadcast(dims, node.input(1)?.sizes()?)?,
        "Tile" => {
            let times = node.input(1)?.sizes()?;
            let pairs = dims.iter().zip(times);
            pairs
                .map(|(&dim, &times)| product(&[dim, times]))
                .collect::<Result<_, _>>()?
        }
        "Pad" => padded(node, dims)?,
        "Slice" => sliced(node, dims)?,
        "Gather" => {
            let axis = front(node.int("axis", 0)?, rank)?;
            let index = &node.input(1)?.dims;
            [&dims[..axis], index, &dims[axis + 1..]].concat()
        }
        "GatherND" => {
            let index = &node.input(1)?.dims;
            let (&depth, outer) = index.split_last().ok_or("indices of no axis")?;
            let first = usize::try_from(known(depth)?).unwrap_or(usize::MAX);
            let batched = usize::try_from(node.int("batch_dims", 0)?).unwrap_or(0);
            let rest = dims
                .get(batched.saturating_add(first)..)
                .ok_or("indices deeper than the value")?;
            [outer, rest].concat()
        }
        "OneHot" => {
            let rank = rank + 1;
            let axis = front(node.int("axis", -1)?, rank)?;
            let depth = *node.input(1)?.sizes()?.first().ok_or("no depth")?;
            let mut result = dims.clone();
            result.insert(axis, depth);
            result
        }
        operator @ ("DepthToSpace" | "SpaceToDepth") => {
            let block = node.int("blocksize", 0)?;
            let &[batch, channels, height, width] = &dims[..] else {
                return Err(format!("of {rank} axes: expected 4"));
            };
            let (block, square) = (Dim::Known(block), Dim::Known(block.saturating_mul(block)));
            if operator == "DepthToSpace" {
                let sides = [product(&[height, block])?, product(&[width, block])?];
                vec![batch, quotient(channels, square)?, sides[0], sides[1]]
            } else {
                vec![
                    batch,
                    product(&[channels, square])?,
                    quotient(height, block)?,
                    quotient(width, block)?,
                ]
            }
        }
        other => return Err(format!("no shape is known for {other}")),
    })
}

fn reshaped(node: &Node<'_>, dims: &[Dim]) -> Result<Vec<Dim>, String> {
    let target = node.input(1)?.sizes()?;
    let zero = node.flag("allowzero", false)?;
    let mut sizes = Vec::with_capacity(target.len());
    let mut inferred = None;
    for (place, &dim) in target.iter().enumerate() {
        sizes.push(match dim {
            Dim::Known(-1) if inferred.is_none() => {
                inferred = Some(place);
                Dim::Known(1)
            }
            Dim::Known(0) if !zero => *dims.get(place).ok_or("a size of 0 beyond the input's axes")?,
            Dim::Known(size) if size < 0 => return Err(format!("to {target:?}")),
            size => size,
        });
    }
    let (whole, part) = (product(dims)?, product(&sizes)?);
    match inferred {
        Some(place) => sizes[place] = quotient(whole, part)?,
        None if whole == part => {}
        None => return Err(format!("of {whole:?} elements to {part:?}")),
    }
    Ok(sizes)
}

fn padded(node: &Node<'_>, dims: &[Dim]) -> Result<Vec<Dim>, String> {
    let pads = node.ints("pads", 1)?.ok_or("no pads")?;
    let axes = match node.optional(3) {
        Some(axes) => axes.integers()?,
        None => (0..dims.len() as i64).collect(),
    };
    let mut result = dims.to_vec();
    for (place, &axis) in axes.iter().enumerate() {
        let axis = front(axis, dims.len())?;
        let pair = [pads.get(place), pads.get(place + axes.len())];
        let [Some(before), Some(after)] = pair else {
            return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
        };
        let sum = before.checked_add(*after).ok_or("pads beyond range")?;
        if sum != 0 {
            result[axis] = Dim::Known(known(dims[axis])?.checked_add(sum).ok_or("pads beyond range")?);
        }
    }
    Ok(result)
}

fn sliced(node: &Node<'_>, dims: &[Dim]) -> Result<Vec<Dim>, String> {
    let starts = node.input(1)?.integers()?;
    let ends = node.input(2)?.integers()?;
    let axes = match node.optional(3) {
        Some(axes) => axes.integers()?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match node.optional(4) {
        Some(steps) => steps.integers()?,
        None => vec![1; starts.len()],
    };
    let mut result = dims.to_vec();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = front(axis, dims.len())?;
        let whole = matches!(dims[axis], Dim::Batch(_)) && start == 0 && step == 1 && end >= i64::from(i32::MAX);
        if whole {
            continue;
        }
        let length = known(dims[axis])?;
        let place = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        let distance = match step {
            0 => return Err("a step of 0".to_owned()),
            1.. => place(end).clamp(0, length) - place(start).clamp(0, length),
            _ => place(start).clamp(-1, length - 1) - place(end).clamp(-1, length - 1),
        };
        let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
        result[axis] = Dim::Known(count as i64);
    }
    Ok(result)
}

fn reduced(node: &Node<'_>, input: &Info) -> Result<Vec<Dim>, String> {
    let rank = input.dims.len();
    let keep = node.flag("keepdims", true)?;
    let arguments = node.source.operator().starts_with("Arg");
    let axes = if arguments {
        Some(vec![node.int("axis", 0)?])
    } else {
        node.ints("axes", 1)?
    };
    let axes = match axes.filter(|axes| !axes.is_empty()) {
        Some(axes) => normalise(&axes, rank).ok_or_else(|| format!("axes {axes:?} of {rank}"))?,
        None if node.flag("noop_with_empty_axes", false)? => return Ok(input.dims.clone()),
        None => (0..rank).collect(),
    };
    axes.iter()
        .try_for_each(|&axis| within_images(&input.dims[axis..=axis]))?;
    let dims = input.dims.iter().enumerate().filter_map(|(axis, &dim)| {
        if axes.contains(&axis) {
            keep.then_some(Dim::Known(1))
        } else {
            Some(dim)
        }
    });
    Ok(dims.collect())
}

fn range(node: &Node<'_>) -> Result<Vec<Info>, String> {
    let number = |index: usize| -> Result<i64, String> {
        let values = node.input(index)?.integers()?;
        values.first().copied().ok_or_else(|| "no number".to_owned())
    };
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    if delta == 0 {
        return Err("a delta of 0".to_owned());
    }
    let distance = if delta > 0 {
        limit.saturating_sub(start)
    } else {
        start.saturating_sub(limit)
    };
    let count = distance.max(0).unsigned_abs().div_ceil(delta.unsigned_abs());
    Ok(vec![Info::new(vec![Dim::Known(count as i64)], node.input(0)?.kind)])
}

fn split(node: &Node<'_>) -> Result<Vec<Info>, String> {
    let input = node.input(0)?;
    let axis = front(node.int("axis", 0)?, input.dims.len())?;
    let length = known(input.dims[axis])?;
    let outputs = node.source.proto.output.len().max(1) as i64;
    let size = length.unsigned_abs().div_ceil(outputs.unsigned_abs()) as i64;
    let equal = || {
        (0..outputs)
            .map(|output| size.min(length.saturating_sub(output.saturating_mul(size)).max(0)))
            .collect()
    };
    let sizes = node.ints("split", 1)?.unwrap_or_else(equal);
    let total = sizes.iter().try_fold(0_i64, |sum, &size| sum.checked_add(size));
    if total != Some(length) || sizes.len() as i64 != outputs {
        return Err(format!("into {sizes:?} of {length}"));
    }
    let part = |size: i64| {
        let mut dims = input.dims.clone();
        dims[axis] = Dim::Known(size);
        Info::new(dims, input.kind)
    };
    Ok(sizes.into_iter().map(part).collect())
}

fn top(node: &Node<'_>) -> Result<Vec<Info>, String> {
    let input = node.input(0)?;
    let axis = front(node.int("axis", -1)?, input.dims.len())?;
    within_images(&input.dims[axis..=axis])?;
    let mut dims = input.dims.clone();
    dims[axis] = *node.input(1)?.sizes()?.first().ok_or("no k")?;
    Ok(vec![
        Info::new(dims.clone(), input.kind),
        Info::new(dims, Kind::Integer),
    ])
}
