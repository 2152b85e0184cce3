//! `.safetensors` files.

use std::rc::Rc;

use safetensors::{Dtype, SafeTensors};

use super::ImportError;
use super::pickle::Element;
use super::weights::{Entry, Source, Weights};

/// Returns whether `bytes` start like a safetensors file: the header's length (u64) and the header, a JSON object.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    match bytes.split_first_chunk::<8>() {
        Some((length, header)) => u64::from_le_bytes(*length) <= header.len() as u64 && header.first() == Some(&b'{'),
        None => false,
    }
}

/// Returns the tensors of the file. Tensors of types that f32 cannot represent give an error when they are read later.
pub(super) fn read<'a>(bytes: &'a [u8], origin: &str) -> Result<Weights<'a>, ImportError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ImportError::Container {
        origin: origin.to_owned(),
        reason: format!(
            "safetensors: {error}\nhint: the file may be incomplete: compare its length with that of the source"
        ),
    })?;
    let origin: Rc<str> = origin.into();
    let entries = file.iter().map(|(name, view)| {
        let source = match element(view.dtype()) {
            Some(element) => Source::Bytes {
                element,
                bytes: view.data(),
            },
            None => Source::Unreadable(format!(
                "expected f16, bf16, f32, f64 or integers, got {:?}",
                view.dtype()
            )),
        };
        let entry = Entry {
            origin: Rc::clone(&origin),
            shape: view.shape().to_vec(),
            container: 0,
            source,
        };
        (name.to_owned(), entry)
    });
    Ok(Weights::new(entries.collect(), bytes.len()))
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
