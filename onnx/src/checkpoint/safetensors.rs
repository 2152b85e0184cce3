//! `.safetensors` files.

use safetensors::{Dtype, SafeTensors};

use super::ImportError;
use super::pickle::Element;
use super::state::{Budget, StateDict, plain_name};
use crate::Tensor;

/// Whether `bytes` begin as a safetensors file: the header's length (u64) and the header, a JSON object.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<8>() {
        Some((length, header)) => u64::from_le_bytes(*length) <= header.len() as u64 && header.first() == Some(&b'{'),
        None => false,
    }
}

/// Reads all tensors of floating-point or integer type.
pub(super) fn read(bytes: &[u8], origin: &str) -> Result<StateDict, ImportError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ImportError::Container {
        origin: origin.to_owned(),
        reason: format!("safetensors: {error}"),
    })?;
    let mut budget = Budget::new(origin, bytes.len());
    let mut state = StateDict::default();
    for (name, view) in file.iter() {
        let Some(element) = element(view.dtype()) else {
            let reason = format!("expected f16, bf16, f32, f64 or integers, got {:?}", view.dtype());
            return Err(ImportError::Tensor {
                origin: origin.to_owned(),
                tensor: name.to_owned(),
                reason,
            });
        };
        budget.elements(view.shape())?;
        let values: Vec<f32> = view
            .data()
            .chunks_exact(element.size())
            .map(|value| element.read(value))
            .collect();
        state
            .tensors
            .insert(plain_name(name).to_owned(), Tensor::new(view.shape(), values));
    }
    Ok(state)
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        _ => return None,
    })
}
