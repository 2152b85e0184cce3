//! Strided views of raw storages.

use super::pickle::{Element, TensorRef};

/// Returns the `count` elements of `tensor` in row-major order, read from its storage's bytes.
pub(super) fn contiguous(tensor: &TensorRef, count: usize, data: &[u8]) -> Result<Vec<f32>, String> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let (element, size) = (tensor.storage.element, tensor.storage.element.size());
    let steps = tensor.shape.iter().zip(&tensor.strides);
    let last = steps.clone().try_fold(tensor.offset, |last, (&side, &stride)| {
        (side - 1).checked_mul(stride).and_then(|reach| reach.checked_add(last))
    });
    let elements = data.len() / size;
    let Some(last) = last.filter(|&last| last < elements) else {
        return Err(format!(
            "shape {:?} with strides {:?} leaves its storage of {elements} elements",
            tensor.shape, tensor.strides
        ));
    };
    let at = |index: usize| element.read(&data[index * size..]);
    if last - tensor.offset + 1 == count && is_row_major(&tensor.shape, &tensor.strides) {
        let bytes = &data[tensor.offset * size..(last + 1) * size];
        return Ok(match element {
            Element::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&value| f32::from_le_bytes(value))
                .collect(),
            _ => bytes.chunks_exact(size).map(|value| element.read(value)).collect(),
        });
    }
    let mut values = Vec::with_capacity(count);
    let mut index = vec![0; tensor.shape.len()];
    let mut position = tensor.offset;
    for _ in 0..count {
        values.push(at(position));
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            // The step after the last element of an axis is undone below.
            position = position.wrapping_add(tensor.strides[axis]);
            if index[axis] < tensor.shape[axis] {
                break;
            }
            position = position.wrapping_sub(tensor.strides[axis].wrapping_mul(tensor.shape[axis]));
            index[axis] = 0;
        }
    }
    Ok(values)
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected *= side;
        fits
    })
}
