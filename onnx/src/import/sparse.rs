//! Sparse constants (`SparseTensorProto`), which are converted to dense ones before the nodes are read.

use super::{
    constant,
    external::External,
    value::{Dim, Value},
};
use crate::{
    OnnxError,
    proto::{GraphProto, SparseTensorProto, TensorProto},
};

/// Maximum number of elements of all dense tensors, relative to the stored values, and an allowance for every model. A
/// few bytes must not expand to gigabytes of zeros.
const MAX_GROWTH: usize = 64;
const MAX_ELEMENTS: usize = 1 << 20;

/// Replaces sparse initialisers, and `sparse_value` of `Constant` nodes, by dense tensors.
///
/// # Errors
/// [`OnnxError`] if indices, values and dimensions are inconsistent, or if the dense tensors would be too large for the
/// size of the file.
pub(super) fn densify(graph: &mut GraphProto, external: &External, origin: &str) -> Result<(), OnnxError> {
    let mut budget = MAX_ELEMENTS;
    for sparse in std::mem::take(&mut graph.sparse_initializer) {
        let tensor = dense(&sparse, external, origin, &mut budget)?;
        graph.initializer.push(tensor);
    }
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    for attribute in attributes.filter(|attribute| attribute.name.as_deref() == Some("sparse_value")) {
        if let Some(sparse) = attribute.sparse_tensor.take() {
            attribute.t = Some(dense(&sparse, external, origin, &mut budget)?);
            attribute.name = Some("value".to_owned());
        }
    }
    Ok(())
}

fn dense(
    sparse: &SparseTensorProto,
    external: &External,
    origin: &str,
    budget: &mut usize,
) -> Result<TensorProto, OnnxError> {
    let empty = TensorProto::default();
    let (values, indices) = (
        sparse.values.as_ref().unwrap_or(&empty),
        sparse.indices.as_ref().unwrap_or(&empty),
    );
    let name = values.name.clone().unwrap_or_default();
    let fail = |reason: String| OnnxError::Tensor {
        origin: origin.to_owned(),
        tensor: name.clone(),
        reason: format!("sparse: {reason}"),
    };
    let dims: Option<Vec<usize>> = sparse.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let dims = dims.ok_or_else(|| fail(format!("a negative dimension in {:?}", sparse.dims)))?;
    let stored: usize = values.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).sum();
    *budget = budget.saturating_add(stored.saturating_mul(MAX_GROWTH));
    let count = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    let count = count.filter(|count| *count <= *budget).ok_or_else(|| {
        fail(format!(
            "shape {dims:?} for {stored} values that are not zero: out of proportion"
        ))
    })?;
    *budget -= count;
    let places = numbers(indices, external)
        .and_then(|numbers| places(&numbers, &indices.dims, &dims))
        .map_err(&fail)?;
    let mut tensor = TensorProto {
        dims: sparse.dims.clone(),
        name: Some(name.clone()),
        ..TensorProto::default()
    };
    let fits = |got: usize| {
        (got == places.len())
            .then_some(())
            .ok_or_else(|| fail(format!("{got} values for {} indices", places.len())))
    };
    match constant::value(values, &name, origin, external)? {
        Value::Tensor(values) => {
            fits(values.data().len())?;
            tensor.data_type = Some(TensorProto::FLOAT);
            tensor.float_data = vec![0.0; count];
            places
                .iter()
                .zip(values.data())
                .for_each(|(&place, &value)| tensor.float_data[place] = value);
        }
        Value::Integers { values, .. } => {
            fits(values.len())?;
            tensor.data_type = Some(TensorProto::INT64);
            tensor.int64_data = vec![0; count];
            for (&place, value) in places.iter().zip(values) {
                if let Dim::Known(value) = value {
                    tensor.int64_data[place] = value;
                }
            }
        }
        other => return Err(fail(format!("expected floats or integers, got {}", other.describe()))),
    }
    Ok(tensor)
}

/// Returns the stored indices. The limit for the integers of a shape does not apply to them.
fn numbers(indices: &TensorProto, external: &External) -> Result<Vec<i64>, String> {
    if indices.data_type != Some(TensorProto::INT64) {
        return Err(format!(
            "indices: expected int64 (type 7), got type {}",
            indices.data_type.unwrap_or(0)
        ));
    }
    let outside = external.bytes(indices)?;
    Ok(
        match outside
            .as_deref()
            .or(indices.raw_data.as_deref())
            .filter(|raw| !raw.is_empty())
        {
            Some(raw) => raw.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word)).collect(),
            None => indices.int64_data.clone(),
        },
    )
}

/// Returns the row-major positions of the indices. They are given as positions `[NNZ]`, or as coordinates
/// `[NNZ, rank]`.
fn places(indices: &[i64], shape: &[i64], dims: &[usize]) -> Result<Vec<usize>, String> {
    let linear = [dims.iter().product::<usize>()];
    let dims = if shape.len() < 2 { &linear[..] } else { dims };
    if shape.len() > 2 || (shape.len() == 2 && usize::try_from(shape[1]) != Ok(dims.len())) || dims.is_empty() {
        return Err(format!(
            "indices of shape {shape:?}: expected [NNZ] or [NNZ, {}]",
            dims.len()
        ));
    }
    let place = |coordinates: &[i64]| {
        coordinates.iter().zip(dims).try_fold(0_usize, |place, (&at, &dim)| {
            usize::try_from(at)
                .ok()
                .filter(|&at| at < dim)
                .map(|at| place * dim + at)
        })
    };
    let places: Option<Vec<usize>> = indices.chunks(dims.len()).map(place).collect();
    places.ok_or_else(|| format!("an index is outside {dims:?}"))
}
