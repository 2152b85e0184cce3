//! Constants, and operators that pass their input through: Identity, Dropout, Cast.

use super::super::{
    Import,
    attributes::Source,
    constant, folding,
    value::{Converted, Dim, Refusal, Value, unsupported},
};
use crate::{Tensor, proto::TensorProto};

pub(super) fn constant<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["value", "value_float", "value_floats", "value_int", "value_ints"])?;
    if let Some(tensor) = source.tensor("value") {
        return Ok(import.constant(tensor, source.name)?);
    }
    if let Some(values) = source.floats("value_floats") {
        return Ok(Value::Tensor(Tensor::new([values.len()], values)));
    }
    if let Some(values) = source.ints("value_ints") {
        return Ok(Value::Integers {
            dims: vec![values.len()],
            values: values.iter().map(|&value| Dim::Known(value)).collect(),
        });
    }
    if source.has("value_float") {
        return Ok(Value::Tensor(Tensor::new([], vec![source.float("value_float", 0.0)?])));
    }
    if source.has("value_int") {
        return Ok(Value::Integers {
            dims: vec![],
            values: vec![Dim::Known(source.int("value_int", 0)?)],
        });
    }
    unsupported("a constant without a value")
}

/// Returns a constant with one value (0 unless the attribute states another), of the shape that the input gives.
pub(super) fn constant_of_shape<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["value"])?;
    let Some(dims) = import.integers(source, 0)? else {
        return unsupported("no shape");
    };
    let dims: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let Some(dims) = dims else {
        return unsupported("a negative size");
    };
    let value = match source.tensor("value") {
        Some(tensor) => constant::value(tensor, source.name, import.origin, import.external)?,
        None => Value::Tensor(Tensor::new([], vec![0.0])),
    };
    let one = match &value {
        Value::Tensor(tensor) => tensor.data().len(),
        Value::Integers { values, .. } => values.len(),
        _ => 0,
    };
    if one != 1 {
        return unsupported(format!("of {}: expected one value", value.describe()));
    }
    let strides = vec![0; dims.len()];
    import.taken(&value, dims, 0, &strides)
}

/// Returns the integers `start, start + delta, …` before `limit`.
pub(super) fn range<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let mut number = |index: usize| match import.integers(source, index)?.as_deref() {
        Some(&[value]) => Ok(value),
        _ => unsupported("expected one integer each for start, limit and delta"),
    };
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    let count = match delta {
        0 => return unsupported("a delta of 0"),
        _ => {
            (i128::from(limit) - i128::from(start) + i128::from(delta) - i128::from(delta.signum())) / i128::from(delta)
        }
    };
    let Some(count) = usize::try_from(count.max(0))
        .ok()
        .filter(|&count| count <= folding::MAX_INTEGERS)
    else {
        return unsupported(format!("{count} integers: at most {}", folding::MAX_INTEGERS));
    };
    let values = (0..count as i128).map(|index| Dim::Known((i128::from(start) + index * i128::from(delta)) as i64));
    Ok(Value::Integers {
        dims: vec![count],
        values: values.collect(),
    })
}

pub(super) fn identity<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    import.value(source, 0)
}

/// Converts Dropout, which does nothing in inference. The ratio became an input in opset 12, together with the training
/// flag.
pub(super) fn dropout<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["ratio", "seed"])?;
    match import.integers(source, 2)?.as_deref() {
        None | Some([0]) => import.value(source, 0),
        Some(_) => {
            let reason = "expected inference mode\nhint: call model.eval() before exporting";
            Err(Refusal::Invalid(reason.to_owned()))
        }
    }
}

/// Converts Cast. All computed values are f32, so a Cast between float types only changes the precision.
pub(super) fn cast<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["to", "saturate", "round_mode"])?;
    let to = source.int("to", 0)?;
    let kind = i32::try_from(to).unwrap_or(0);
    match import.value(source, 0)? {
        value @ (Value::Data(_) | Value::View(_) | Value::Tensor(_)) if constant::FLOATS.contains(&kind) => {
            if value.computed().is_some() {
                import.half.cast(kind);
            }
            Ok(value)
        }
        value @ Value::Integers { .. } if [TensorProto::INT64, TensorProto::INT32].contains(&kind) => Ok(value),
        Value::Integers { dims, values } if kind == constant::BOOL => {
            let truth = |value: &Dim| Dim::Known(i64::from(*value != Dim::Known(0)));
            Ok(Value::Integers {
                dims,
                values: values.iter().map(truth).collect(),
            })
        }
        Value::Integers { dims, values } if constant::FLOATS.contains(&kind) => {
            let floats = values.iter().map(|value| match value {
                Dim::Known(value) => Some(*value as f32),
                Dim::Batch(_) => None,
            });
            match floats.collect::<Option<Vec<_>>>() {
                Some(floats) => Ok(Value::Tensor(Tensor::new(dims, floats))),
                None => unsupported("of integers that depend on the batch to floats"),
            }
        }
        Value::Tensor(tensor)
            if [TensorProto::INT64, TensorProto::INT32].contains(&kind)
                && tensor.data().len() <= folding::MAX_INTEGERS =>
        {
            // Rounds towards zero, as ONNX does.
            let values = tensor.data().iter().map(|&value| Dim::Known(value as i64));
            Ok(Value::Integers {
                dims: tensor.shape().to_vec(),
                values: values.collect(),
            })
        }
        other => unsupported(format!("of {} to type {to}", other.describe())),
    }
}

/// Converts a Cast to the type of another tensor.
pub(super) fn cast_like<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["saturate", "round_mode"])?;
    let (value, like) = (import.value(source, 0)?, import.value(source, 1)?);
    match (&value, &like) {
        (Value::Data(_) | Value::View(_) | Value::Tensor(_), Value::Data(_) | Value::View(_) | Value::Tensor(_))
        | (Value::Integers { .. }, Value::Integers { .. }) => Ok(value),
        _ => unsupported(format!("of {} to the type of {}", value.describe(), like.describe())),
    }
}
