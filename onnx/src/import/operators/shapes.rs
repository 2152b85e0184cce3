//! Constants, what passes its input on, Concat, and the shape arithmetic that exporters write around a Reshape.

use super::super::{
    Import,
    attributes::Source,
    constant,
    value::{Converted, Dim, Refusal, Value, unsupported},
};
use crate::{
    Tensor,
    graph::{Op, ValueId},
    proto::TensorProto,
};

pub(super) fn constant<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["value", "value_float", "value_floats", "value_int", "value_ints"])?;
    if let Some(tensor) = source.tensor("value") {
        return Ok(constant::value(tensor, source.name, import.origin, import.external)?);
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

pub(super) fn identity<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    import.value(source, 0)
}

pub(super) fn dropout<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["ratio", "seed"])?;
    match import.integers(source, 2)?.as_deref() {
        None | Some([0]) => import.value(source, 0),
        Some(_) => unsupported("expected inference mode\nhint: call model.eval() before exporting"),
    }
}

pub(super) fn cast<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["to", "saturate"])?;
    let to = source.int("to", 0)?;
    match import.value(source, 0)? {
        value @ (Value::Data(_) | Value::Tensor(_)) if to == i64::from(TensorProto::FLOAT) => Ok(value),
        value @ Value::Integers { .. } if [TensorProto::INT64, TensorProto::INT32].map(i64::from).contains(&to) => {
            Ok(value)
        }
        other => unsupported(format!("of {} to type {to}", other.describe())),
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
        // One input: nothing to do.
        return if let [input] = inputs[..] {
            Ok(Value::Data(input))
        } else {
            import.push(source.name, Op::Concat, inputs)
        };
    }
    let mut all = Vec::new();
    for value in values {
        match value {
            Value::Integers { values, .. } if matches!(axis, 0 | -1) => all.extend(values),
            other => return unsupported(format!("of {} along axis {axis}", other.describe())),
        }
    }
    Ok(Value::Integers {
        dims: vec![all.len()],
        values: all,
    })
}

/// A vector of integers.
fn vector<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Vec<Dim>, Refusal> {
    match import.value(source, 0)? {
        Value::Integers { dims, values } if dims.len() == 1 => Ok(values),
        other => unsupported(format!("of {}: expected a shape", other.describe())),
    }
}

/// A place in a list, counted from the end if negative.
fn place(index: i64, length: usize) -> i64 {
    if index < 0 {
        index.saturating_add(length as i64)
    } else {
        index
    }
}

pub(super) fn shape<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["start", "end"])?;
    let dims: Vec<Dim> = match import.value(source, 0)? {
        Value::Data(value) => {
            let shape = import.shape(value);
            [Dim::Batch]
                .into_iter()
                .chain(shape.dims().iter().map(|&dim| Dim::Known(dim as i64)))
                .collect()
        }
        Value::Tensor(tensor) => tensor.shape().iter().map(|&dim| Dim::Known(dim as i64)).collect(),
        other => return unsupported(format!("of {}", other.describe())),
    };
    let length = dims.len();
    let clamp = |index: i64| place(index, length).clamp(0, length as i64) as usize;
    let (start, end) = (clamp(source.int("start", 0)?), clamp(source.int("end", length as i64)?));
    let values = dims.get(start..end).unwrap_or_default().to_vec();
    Ok(Value::Integers {
        dims: vec![values.len()],
        values,
    })
}

pub(super) fn gather<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["axis"])?;
    let axis = source.int("axis", 0)?;
    let values = vector(import, source)?;
    let dims = match import.value(source, 1)? {
        Value::Integers { dims, .. } if dims.len() < 2 && axis == 0 => dims,
        other => return unsupported(format!("axis {axis}, indices {}", other.describe())),
    };
    let indices = import.integers(source, 1)?.unwrap_or_default();
    let picked = indices
        .iter()
        .map(|&index| values.get(usize::try_from(place(index, values.len())).ok()?).copied());
    match picked.collect::<Option<Vec<_>>>() {
        Some(values) => Ok(Value::Integers { dims, values }),
        None => unsupported(format!("indices {indices:?} of {} values", values.len())),
    }
}

pub(super) fn slice<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&[])?;
    let values = vector(import, source)?;
    let (starts, ends) = (import.integers(source, 1)?, import.integers(source, 2)?);
    let (axes, steps) = (import.integers(source, 3)?, import.integers(source, 4)?);
    let (Some([start]), Some([end]), None | Some([0]), None | Some([1])) =
        (starts.as_deref(), ends.as_deref(), axes.as_deref(), steps.as_deref())
    else {
        return unsupported("expected one start and end, axis 0 and step 1");
    };
    let clamp = |index: i64| place(index, values.len()).clamp(0, values.len() as i64) as usize;
    let values = values.get(clamp(*start)..clamp(*end)).unwrap_or_default().to_vec();
    Ok(Value::Integers {
        dims: vec![values.len()],
        values,
    })
}

pub(super) fn transpose<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["perm"])?;
    let perm = source.ints("perm").unwrap_or(&[1, 0]);
    match import.value(source, 0)? {
        Value::Tensor(tensor) if perm == [1, 0] && tensor.shape().len() == 2 => Ok(Value::Tensor(transposed(&tensor))),
        Value::Data(_) if perm == [0, 2, 3, 1] || perm == [0, 3, 1, 2] => unsupported(format!(
            "perm {perm:?}: expected channels first throughout\nhint: export the model in NCHW layout"
        )),
        other => unsupported(format!("perm {perm:?} of {}", other.describe())),
    }
}

/// The transpose of a matrix.
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
