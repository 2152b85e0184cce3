//! Views after a Transpose or Reshape, and the same view of another value.

use super::{Factor, PARTS, Part, View};
use crate::{Shape, graph::ValueId};

impl View {
    /// Returns the transposed view: axis `i` of the result is axis `perm[i]`. Both count the batch, which must stay in
    /// front.
    pub(in super::super) fn transposed(&self, perm: &[i64]) -> Option<Self> {
        let (&first, rest) = perm.split_first()?;
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if first != 0 || !sorted.iter().copied().eq(0..self.rank() as i64) {
            return None;
        }
        Some(Self {
            axes: rest.iter().map(|&axis| self.axes[axis as usize - 1].clone()).collect(),
            ..self.clone()
        })
    }

    /// Returns the same elements with other sizes (without the batch). Factors are split where the sizes require it.
    pub(in super::super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        if self.dims() == dims {
            return Some(self.clone());
        }
        let mut view = self.clone();
        let mut order = self.significant(&self.axes.concat());
        let mut axes: Vec<Vec<usize>> = Vec::with_capacity(dims.len());
        let mut next = 0;
        for &dim in dims {
            let (mut axis, mut product) = (Vec::new(), 1_usize);
            while product < dim {
                let &factor = order.get(next)?;
                let (size, wanted) = (view.factors[factor].size, dim / product);
                if dim % product != 0 {
                    return None;
                }
                if wanted < size {
                    // The slower part belongs to this axis, and the faster part to the next.
                    size.is_multiple_of(wanted).then_some(())?;
                    view.split(factor, wanted);
                    let shift = |list: &mut Vec<usize>| {
                        for other in list {
                            *other += usize::from(*other > factor);
                        }
                    };
                    shift(&mut order);
                    shift(&mut axis);
                    axes.iter_mut().for_each(shift);
                    order.insert(next + 1, factor + 1);
                }
                product *= view.factors[factor].size;
                axis.push(factor);
                next += 1;
            }
            (product == dim).then(|| axes.push(axis))?;
        }
        (next == order.len()).then_some(())?;
        view.axes = axes;
        view.merge();
        Some(view)
    }

    /// Splits a factor into `slow` and the rest, which follows it.
    fn split(&mut self, factor: usize, slow: usize) {
        let Factor { size, part } = self.factors[factor];
        self.factors[factor].size = slow;
        self.factors.insert(
            factor + 1,
            Factor {
                size: size / slow,
                part,
            },
        );
    }

    /// Merges factors of the same part that are adjacent both in the value and in an axis.
    pub(super) fn merge(&mut self) {
        let mut factor = 0;
        while factor + 1 < self.factors.len() {
            let (left, right) = (self.factors[factor], self.factors[factor + 1]);
            let adjacent = || {
                self.axes
                    .iter()
                    .any(|axis| axis.windows(2).any(|pair| pair == [factor, factor + 1]))
                    || (left.size == 1 || right.size == 1)
            };
            if left.part != right.part || !adjacent() {
                factor += 1;
                continue;
            }
            self.factors[factor].size *= right.size;
            self.factors.remove(factor + 1);
            let (drop_left, drop_right) = (left.size == 1, left.size != 1);
            for axis in &mut self.axes {
                axis.retain(|&other| !(drop_left && other == factor || drop_right && other == factor + 1));
                for other in axis {
                    *other -= usize::from(*other > factor);
                }
            }
        }
    }

    /// Returns the same layout for another value. Its shape must be the same, except for the sizes of parts that
    /// consist of one factor.
    pub(in super::super) fn of(&self, value: ValueId, shape: Shape) -> Option<Self> {
        let mut view = Self { value, ..self.clone() };
        match shape {
            Shape::Map(dims) => {
                for (part, size) in PARTS.into_iter().zip(dims) {
                    let own: Vec<usize> = (0..view.factors.len())
                        .filter(|&factor| view.factors[factor].part == part)
                        .collect();
                    match own[..] {
                        _ if view.product(&own) == size => {}
                        [factor] => view.factors[factor].size = size,
                        _ => return None,
                    }
                }
            }
            Shape::Vector(length) => view.unfactored(length),
        }
        Some(view)
    }

    /// Removes factors of size 1, so that at most one factor of size `length` remains. Does nothing if several factors
    /// are larger.
    pub(super) fn unfactored(&mut self, length: usize) {
        if self.factors.iter().filter(|factor| factor.size > 1).count() > 1 {
            return;
        }
        for axis in &mut self.axes {
            *axis = axis
                .iter()
                .any(|&factor| self.factors[factor].size > 1)
                .then_some(0)
                .into_iter()
                .collect();
        }
        self.factors = vec![Factor {
            size: length,
            part: Part::Channels,
        }];
    }
}
