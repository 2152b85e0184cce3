//! Conversion between the tensor of the file and the value of the graph, for operators that tract executes.

use super::{super::opaque::Tail, View};
use crate::Shape;

impl View {
    /// Returns the conversion from the value to the file's tensor.
    pub(in super::super) fn head(&self, shape: Shape) -> Tail {
        let all = self.significant(&(0..self.factors.len()).collect::<Vec<_>>());
        let order = self.significant(&self.axes.concat());
        let sizes: Vec<usize> = all.iter().map(|&factor| self.factors[factor].size).collect();
        let place = |factor: &usize| all.iter().position(|own| own == factor).map(|place| place + 1);
        let perm: Vec<usize> = [0].into_iter().chain(order.iter().filter_map(place)).collect();
        steps(shape.dims(), sizes, perm, self.dims())
    }

    /// Returns the conversion from the file's tensor to the value.
    pub(in super::super) fn tail(&self, shape: Shape) -> Tail {
        let all = self.significant(&(0..self.factors.len()).collect::<Vec<_>>());
        let order = self.significant(&self.axes.concat());
        let sizes: Vec<usize> = order.iter().map(|&factor| self.factors[factor].size).collect();
        let place = |factor: &usize| order.iter().position(|own| own == factor).map(|place| place + 1);
        let perm: Vec<usize> = [0].into_iter().chain(all.iter().filter_map(place)).collect();
        steps(&self.dims(), sizes, perm, shape.dims().to_vec())
    }
}

/// Returns the conversion from sizes `from` to sizes `to` by a split, a transposition and a final reshape, without
/// steps that do nothing.
fn steps(from: &[usize], sizes: Vec<usize>, perm: Vec<usize>, to: Vec<usize>) -> Tail {
    if perm.is_sorted() {
        return Tail {
            dims: (from != to).then_some(to),
            ..Tail::default()
        };
    }
    let permuted: Vec<usize> = perm[1..].iter().map(|&place| sizes[place - 1]).collect();
    Tail {
        split: (from != sizes).then_some(sizes),
        perm: Some(perm),
        dims: (permuted != to).then_some(to),
    }
}
