//! Weights that are standardised in the graph (normaliser-free networks): means and norms of constants.

use super::super::{
    Import,
    attributes::Source,
    folding,
    value::{Converted, Refusal, Value, unsupported},
};
use crate::{Tensor, graph::BatchNorm};

/// Returns the mean of a constant over `axes`.
pub(super) fn mean(import: &mut Import<'_>, tensor: &Tensor, axes: &[usize], keep: bool) -> Converted {
    let (dims, strides) = (tensor.shape(), folding::strides(tensor.shape()));
    let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..dims.len()).partition(|axis| axes.contains(axis));
    let size: usize = reduced.iter().map(|&axis| dims[axis]).product();
    if size == 0 {
        return unsupported(format!("over {axes:?} of an empty constant {dims:?}"));
    }
    let order: Vec<usize> = kept.iter().chain(&reduced).copied().collect();
    let (sizes, steps): (Vec<_>, Vec<_>) = order.iter().map(|&axis| (dims[axis], strides[axis])).unzip();
    let Value::Tensor(sorted) = import.taken(&Value::Tensor(tensor.clone()), sizes, 0, &steps)? else {
        return Err(Refusal::Tainted);
    };
    let means = sorted.data().chunks_exact(size).map(|values| average(values) as f32);
    let shape: Vec<usize> = (0..dims.len())
        .filter_map(|axis| {
            if axes.contains(&axis) {
                keep.then_some(1)
            } else {
                Some(dims[axis])
            }
        })
        .collect();
    Ok(Value::Tensor(Tensor::new(shape, means.collect::<Vec<_>>())))
}

fn average(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

/// Normalises a constant `[1, C, …]`. If the file specifies training mode, its own mean and variance are used.
pub(super) fn normalised<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    tensor: &Tensor,
    norm: &BatchNorm,
) -> Converted {
    let training = source.flag("training_mode", false)?;
    let vectors = [&norm.scale, &norm.bias, &norm.mean, &norm.variance].map(Tensor::data);
    let (&[1, channels, ..], true) = (
        tensor.shape(),
        vectors
            .iter()
            .all(|vector| Some(&vector.len()) == tensor.shape().get(1)),
    ) else {
        return unsupported(format!("of a constant {:?}: expected [1, C, …]", tensor.shape()));
    };
    import.budget.make(tensor.data().len())?;
    let size = tensor.data().len() / channels.max(1);
    let mut normalised = Vec::with_capacity(tensor.data().len());
    for (channel, values) in tensor.data().chunks_exact(size.max(1)).enumerate() {
        let [scale, bias, mean, variance] = vectors.map(|vector| f64::from(vector[channel]));
        let (mean, variance) = if training {
            let mean = average(values);
            let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2));
            (mean, squares.sum::<f64>() / values.len() as f64)
        } else {
            (mean, variance)
        };
        let factor = scale / (variance + f64::from(norm.epsilon)).sqrt();
        normalised.extend(
            values
                .iter()
                .map(|&value| ((f64::from(value) - mean) * factor + bias) as f32),
        );
    }
    Ok(Value::Tensor(Tensor::new(tensor.shape(), normalised)))
}
