//! Conversion of a file's constants to values of the graph.

use half::{bf16, f16};

use super::{
    external::External,
    folding::{MAX_INTEGERS, MAX_RANK},
    value::{Bytes, Dim, Value},
};
use crate::{OnnxError, Tensor, proto::TensorProto};

/// Maximum number of elements of a constant.
const MAX_ELEMENTS: usize = 1 << 28;

pub(super) const BOOL: i32 = 9;
const BFLOAT16: i32 = 16;
/// The supported float types. All become f32.
pub(super) const FLOATS: [i32; 4] = [TensorProto::FLOAT, TensorProto::DOUBLE, TensorProto::FLOAT16, BFLOAT16];

/// Returns whether a type is a half-precision float.
pub(super) fn is_half(kind: i32) -> bool {
    matches!(kind, TensorProto::FLOAT16 | BFLOAT16)
}

/// Returns the value of a constant. Values of f64, f16 and bf16 become f32. Integers become [`Value::Integers`], and
/// values of any other type become [`Value::Other`].
pub(super) fn value(tensor: &TensorProto, name: &str, origin: &str, external: &External) -> Result<Value, OnnxError> {
    read(tensor, external).map_err(|reason| OnnxError::Tensor {
        origin: origin.to_owned(),
        tensor: name.to_owned(),
        reason,
    })
}

fn read(tensor: &TensorProto, external: &External) -> Result<Value, String> {
    if tensor.dims.len() > MAX_RANK {
        return Err(format!("at most {MAX_RANK} axes, got {}", tensor.dims.len()));
    }
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let dims = dims.ok_or_else(|| format!("a negative dimension in {:?}", tensor.dims))?;
    let count = dims
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count <= MAX_ELEMENTS);
    let count = count.ok_or_else(|| format!("at most {MAX_ELEMENTS} elements, got {dims:?}"))?;
    let external = external.bytes(tensor)?;
    let raw = external
        .as_deref()
        .or(tensor.raw_data.as_deref())
        .filter(|raw| !raw.is_empty());
    let floats = |values: Vec<f32>| {
        let got = values.len();
        (got == count)
            .then(|| Value::Tensor(Tensor::new(dims.clone(), values)))
            .ok_or_else(|| length(&dims, count, got))
    };
    let integers = |values: Vec<i64>| {
        if count > MAX_INTEGERS {
            return Ok(Value::Other("a large integer tensor"));
        }
        let got = values.len();
        let values = values.into_iter().map(Dim::Known).collect();
        (got == count)
            .then(|| Value::Integers {
                dims: dims.clone(),
                values,
            })
            .ok_or_else(|| length(&dims, count, got))
    };
    match (tensor.data_type.unwrap_or(0), raw) {
        (TensorProto::FLOAT, Some(raw)) => floats(words(raw)?.map(f32::from_le_bytes).collect()),
        (TensorProto::FLOAT, None) => floats(tensor.float_data.clone()),
        (TensorProto::DOUBLE, Some(raw)) => floats(words(raw)?.map(|word| f64::from_le_bytes(word) as f32).collect()),
        (TensorProto::DOUBLE, None) => floats(tensor.double_data.iter().map(|&value| value as f32).collect()),
        (TensorProto::FLOAT16, Some(raw)) => {
            floats(words(raw)?.map(|word| f16::from_le_bytes(word).to_f32()).collect())
        }
        (TensorProto::FLOAT16, None) => floats(
            tensor
                .int32_data
                .iter()
                .map(|&bits| f16::from_bits(bits as u16).to_f32())
                .collect(),
        ),
        (BFLOAT16, Some(raw)) => floats(words(raw)?.map(|word| bf16::from_le_bytes(word).to_f32()).collect()),
        (BFLOAT16, None) => floats(
            tensor
                .int32_data
                .iter()
                .map(|&bits| bf16::from_bits(bits as u16).to_f32())
                .collect(),
        ),
        (TensorProto::INT64, Some(raw)) => integers(words(raw)?.map(i64::from_le_bytes).collect()),
        (TensorProto::INT64, None) => integers(tensor.int64_data.clone()),
        (TensorProto::INT32, Some(raw)) => integers(words(raw)?.map(|word| i32::from_le_bytes(word).into()).collect()),
        (BOOL, Some(raw)) => integers(raw.iter().map(|&byte| byte.into()).collect()),
        (TensorProto::INT32 | BOOL, None) => integers(tensor.int32_data.iter().map(|&value| value.into()).collect()),
        (TensorProto::UINT8 | TensorProto::INT8, raw) => {
            let narrow = || tensor.int32_data.iter().map(|&value| value as u8).collect();
            let values: Vec<u8> = raw.map_or_else(narrow, <[u8]>::to_vec);
            let (got, signed) = (values.len(), tensor.data_type == Some(TensorProto::INT8));
            (got == count)
                .then(|| {
                    Value::Bytes(Bytes {
                        dims: dims.clone(),
                        signed,
                        values,
                    })
                })
                .ok_or_else(|| length(&dims, count, got))
        }
        _ => Ok(Value::Other("a tensor of a type that is not supported")),
    }
}

fn length(dims: &[usize], expected: usize, got: usize) -> String {
    format!("shape {dims:?} expects {expected} values, got {got}")
}

fn words<const N: usize>(raw: &[u8]) -> Result<impl Iterator<Item = [u8; N]> + '_, String> {
    let (words, rest) = raw.as_chunks::<N>();
    if rest.is_empty() {
        Ok(words.iter().copied())
    } else {
        Err(format!("{} bytes are not whole {N}-byte values", raw.len()))
    }
}
