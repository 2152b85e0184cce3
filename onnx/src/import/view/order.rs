//! Constants of the file in the order of the graph's value.

use super::{
    super::value::{Refusal, unsupported},
    View,
};
use crate::{Shape, Tensor};

impl View {
    /// Returns, for every position along the only axis of a vector, the position in the graph's vector; `None` if both
    /// are the same.
    fn places(&self) -> Option<Vec<usize>> {
        let [axis] = &self.axes[..] else { return None };
        let axis = self.significant(axis);
        if axis.is_sorted() {
            return None;
        }
        let places = (0..self.product(&axis)).map(|index| {
            let mut rest = index;
            axis.iter().rev().fold(0, |place, &factor| {
                let digit = rest % self.factors[factor].size;
                rest /= self.factors[factor].size;
                place + digit * self.stride(factor)
            })
        });
        Some(places.collect())
    }

    /// Returns the stride of a factor in the value.
    fn stride(&self, factor: usize) -> usize {
        self.factors[factor + 1..].iter().map(|factor| factor.size).product()
    }

    /// Reorders rows of values, one per position of a flattened vector, to the order of the graph's vector. Returns
    /// `None` if the view is not a vector or has another length.
    pub(in super::super) fn vector(&self, tensor: &Tensor) -> Option<Tensor> {
        let fits = tensor.shape().last() == self.dims().first() && self.rank() == 2;
        fits.then(|| self.in_graph_order(tensor))
    }

    fn in_graph_order(&self, tensor: &Tensor) -> Tensor {
        let Some(places) = self.places().filter(|places| !places.is_empty()) else {
            return tensor.clone();
        };
        let mut values = vec![0.0; tensor.data().len()];
        for (row, from) in values
            .chunks_exact_mut(places.len())
            .zip(tensor.data().chunks_exact(places.len()))
        {
            for (&place, &value) in places.iter().zip(from) {
                row[place] = value;
            }
        }
        Tensor::new(tensor.shape(), values)
    }

    /// Returns constants of a layer `[C]`. They must vary only along the channels of a map, or be constant over the
    /// batch of a vector.
    pub(in super::super) fn per_channel(&self, constant: &Tensor, shape: Shape) -> Result<Tensor, Refusal> {
        let channels = shape.channels();
        if let &[value] = constant.data() {
            return Ok(Tensor::new([channels], vec![value; channels]));
        }
        match self.spread(constant, shape) {
            Some(values) => Ok(Tensor::new([channels], values)),
            None => unsupported(format!(
                "a constant {:?} next to [N, {}]: expected one value, or one per channel",
                constant.shape(),
                self.dims()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        }
    }
}
