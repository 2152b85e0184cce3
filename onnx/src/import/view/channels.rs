//! Channels of a view: per-channel constants, groups, selections and concatenations.

use super::{Factor, Part, View};
use crate::{Shape, Tensor, graph::ValueId, limits::MAX_CHANNELS};

impl View {
    /// Returns the factors of the channels of a map, or all factors of a vector, in the order of the value.
    fn channel_factors(&self, shape: Shape) -> Vec<usize> {
        let channel = |&factor: &usize| match shape {
            Shape::Map(_) => self.factors[factor].part == Part::Channels,
            Shape::Vector(_) => true,
        };
        (0..self.factors.len()).filter(channel).collect()
    }

    /// Returns a constant that broadcasts to the file's tensor as one value per channel, in the order of the value.
    /// Returns `None` if the constant also varies along another dimension.
    pub(super) fn spread(&self, constant: &Tensor, shape: Shape) -> Option<Vec<f32>> {
        let dims = constant.shape();
        let shift = self.rank().checked_sub(dims.len())?;
        let factors = self.channel_factors(shape);
        // For every factor of the channels, its stride in the constant.
        let mut strides = vec![0; factors.len()];
        let mut stride = 1;
        for (place, &dim) in dims.iter().enumerate().rev() {
            if dim == 1 {
                continue;
            }
            let axis = self.significant(self.axis(place + shift)?);
            if self.product(&axis) != dim {
                return None;
            }
            for &factor in axis.iter().rev() {
                strides[factors.iter().position(|&own| own == factor)?] = stride;
                stride *= self.factors[factor].size;
            }
        }
        let value = |channel: usize| {
            let mut rest = channel;
            let place = factors.iter().zip(&strides).rev().fold(0, |place, (&factor, &stride)| {
                let digit = rest % self.factors[factor].size;
                rest /= self.factors[factor].size;
                place + digit * stride
            });
            constant.data().get(place).copied()
        };
        (0..shape.channels()).map(value).collect()
    }

    /// If one axis enumerates all channels of a map (or a plain vector) in another order, returns the channel at each
    /// position, and the view of a value with its channels in that order.
    pub(super) fn shuffled(&self, shape: Shape) -> Option<(Vec<u32>, Self)> {
        let vector = matches!(shape, Shape::Vector(_));
        if vector && !self.is_channels_only() || shape.channels() > MAX_CHANNELS {
            return None;
        }
        let factors = self.significant(&self.channel_factors(shape));
        let place = self.axes.iter().position(|axis| {
            let axis = self.significant(axis);
            let mut sorted = axis.clone();
            sorted.sort_unstable();
            !axis.is_sorted() && sorted == factors
        })?;
        let axis = self.significant(&self.axes[place]);
        let later = |factor: usize| {
            let later = factors.iter().filter(move |&&other| other > factor);
            later.map(|&other| self.factors[other].size).product::<usize>()
        };
        let channel = |index: usize| {
            let mut rest = index;
            axis.iter().rev().fold(0, |channel, &factor| {
                let digit = rest % self.factors[factor].size;
                rest /= self.factors[factor].size;
                channel + digit * later(factor)
            })
        };
        let index = (0..shape.channels()).map(|index| u32::try_from(channel(index)).ok());
        let index = index.collect::<Option<Vec<u32>>>()?;
        Some((index, self.with_channels(&[place], &[vec![shape.channels()]])))
    }

    /// Returns the view of another value, whose channels consist of the factors `sizes` in sequence. The axes at
    /// `places` get these factors; other axes lose their channel factors.
    fn with_channels(&self, places: &[usize], sizes: &[Vec<usize>]) -> Self {
        let rest: Vec<usize> = (0..self.factors.len())
            .filter(|&factor| self.factors[factor].part != Part::Channels)
            .collect();
        let channels = sizes.iter().flatten().map(|&size| Factor {
            size,
            part: Part::Channels,
        });
        let mut factors: Vec<Factor> = channels.collect();
        let count = factors.len();
        factors.extend(rest.iter().map(|&factor| self.factors[factor]));
        let mut axes: Vec<Vec<usize>> = self
            .axes
            .iter()
            .map(|axis| {
                axis.iter()
                    .filter_map(|factor| rest.iter().position(|other| other == factor).map(|place| place + count))
                    .collect()
            })
            .collect();
        let mut first = 0;
        for (&place, sizes) in places.iter().zip(sizes) {
            axes[place].splice(0..0, first..first + sizes.len());
            first += sizes.len();
        }
        let mut view = Self {
            factors,
            axes,
            ..self.clone()
        };
        view.merge();
        view
    }

    /// Selects the indices `picked` along `axis` (counted with the batch), if this axis enumerates channels. Returns
    /// the source channel for each position of the new value, and the view of that value.
    pub(in super::super) fn selected(&self, axis: usize, picked: &[usize], shape: Shape) -> Option<(Vec<u32>, Self)> {
        let factors = self.channel_factors(shape);
        let own = self.significant(self.axis(axis)?);
        // The axis must be contiguous in the order of the value, so that the selection can replace it.
        let first = own.first().map(|own| factors.iter().position(|factor| factor == own));
        let first = match first {
            Some(first) => first?,
            None => return None,
        };
        let run = factors.get(first..first + own.len())?;
        (run == own && shape.channels() <= MAX_CHANNELS).then_some(())?;
        let size = |factors: &[usize]| self.product(factors);
        let (before, length, after) = (size(&factors[..first]), size(&own), size(&factors[first + own.len()..]));
        let mut index = Vec::with_capacity(before * picked.len() * after);
        for outer in 0..before {
            for &place in picked {
                for inner in 0..after {
                    index.push(u32::try_from((outer * length + place) * after + inner).ok()?);
                }
            }
        }
        let mut view = self.clone();
        view.factors[own[0]].size = picked.len();
        for &factor in &own[1..] {
            view.factors[factor].size = 1;
        }
        view.merge();
        Some((index, view))
    }

    /// Returns the same layout for `value`, which must have the shape of this view's value.
    pub(in super::super) fn on(self, value: ValueId) -> Self {
        Self { value, ..self }
    }

    /// Returns the view without `axis` (counted with the batch), which has a single element.
    pub(in super::super) fn without(mut self, axis: usize) -> Self {
        if axis > 0 && axis <= self.axes.len() {
            self.axes.remove(axis - 1);
        }
        self
    }

    /// Returns the layout of several values concatenated along `axis` (counted with the batch), after their channels
    /// have been concatenated. On failure, returns the first view that does not fit.
    pub(in super::super) fn concatenated<'v>(
        views: &'v [Self],
        axis: usize,
        shapes: &[Shape],
    ) -> Result<Self, &'v Self> {
        let first = &views[0];
        let place = axis
            .checked_sub(1)
            .filter(|&place| place < first.axes.len())
            .ok_or(first)?;
        let mut total = 0;
        for (view, &shape) in views.iter().zip(shapes) {
            let alike = view.axes.len() == first.axes.len()
                && (0..view.axes.len())
                    .all(|at| at == place || view.signatures(&view.axes[at]) == first.signatures(&first.axes[at]));
            // The axis must enumerate the slowest channel factors, because complete values are concatenated.
            let own = view.significant(&view.axes[place]);
            let channels = view.significant(&view.channel_factors(shape));
            let spatial = view.factors.iter().any(|factor| factor.part != Part::Channels);
            let whole_vector = matches!(shape, Shape::Map(_)) || !spatial || own == channels;
            if !alike || !channels.starts_with(&own) || !whole_vector {
                return Err(view);
            }
            total += view.product(&own);
        }
        let mut view = first.clone();
        let own = view.significant(&view.axes[place]);
        if matches!(shapes[0], Shape::Vector(_))
            && own.len() == view.significant(&view.channel_factors(shapes[0])).len()
        {
            // A concatenation of flattened maps is not a flattened map.
            view.factors = vec![Factor {
                size: total,
                part: Part::Channels,
            }];
            view.axes.iter_mut().for_each(Vec::clear);
            view.axes[place] = vec![0];
            return Ok(view);
        }
        for &factor in &own {
            view.factors[factor].size = 1;
        }
        view.factors.insert(
            0,
            Factor {
                size: total,
                part: Part::Channels,
            },
        );
        for axis in &mut view.axes {
            for factor in axis {
                *factor += 1;
            }
        }
        view.axes[place] = vec![0];
        view.merge();
        Ok(view)
    }

    /// Returns the vector of this view as the map of one pixel that `value` is.
    pub(in super::super) fn as_pixel(&self, value: ValueId) -> Self {
        let mut view = Self { value, ..self.clone() };
        for part in [Part::Rows, Part::Columns] {
            view.factors.push(Factor { size: 1, part });
        }
        view
    }

    /// Returns whether all factors belong to channels, so the vector is not a flattened map.
    pub(in super::super) fn is_channels_only(&self) -> bool {
        self.factors.iter().all(|factor| factor.part == Part::Channels)
    }

    /// If `axis` (counted with the batch) is the slowest factor of the channels, returns its length.
    pub(in super::super) fn groups(&self, axis: usize, shape: Shape) -> Option<usize> {
        let own = self.significant(self.axis(axis)?);
        let channels = self.significant(&self.channel_factors(shape));
        channels.starts_with(&own).then(|| self.product(&own))
    }

    /// Moves the factor that `axis` (counted with the batch) enumerates to the front of the channels. Returns the
    /// source channel at each position, and the view of a value with its channels in that order.
    pub(in super::super) fn fronted(&self, axis: usize, shape: Shape) -> Option<(Vec<u32>, Self)> {
        let factors = self.significant(&self.channel_factors(shape));
        let own = self.significant(self.axis(axis)?);
        if shape.channels() > MAX_CHANNELS
            || !own.iter().all(|factor| factors.contains(factor))
            || !self.is_channels_only() && shape.spatial().is_none()
        {
            return None;
        }
        let rest = factors.iter().copied().filter(|factor| !own.contains(factor));
        let order: Vec<usize> = own.iter().copied().chain(rest).collect();
        let later = |factor: usize| {
            let later = factors.iter().filter(move |&&other| other > factor);
            later.map(|&other| self.factors[other].size).product::<usize>()
        };
        let channel = |index: usize| {
            let mut rest = index;
            order.iter().rev().fold(0, |channel, &factor| {
                let digit = rest % self.factors[factor].size;
                rest /= self.factors[factor].size;
                channel + digit * later(factor)
            })
        };
        let index = (0..shape.channels()).map(|index| u32::try_from(channel(index)).ok());
        let index = index.collect::<Option<Vec<u32>>>()?;
        // The channel factors in their new order, followed by those of rows and columns.
        let others = (0..self.factors.len()).filter(|factor| !order.contains(factor));
        let all: Vec<usize> = order.iter().copied().chain(others).collect();
        let mut view = self.clone();
        view.factors = all.iter().map(|&factor| self.factors[factor]).collect();
        for axis in &mut view.axes {
            for factor in axis.iter_mut() {
                *factor = all.iter().position(|other| other == factor)?;
            }
        }
        view.merge();
        Some((index, view))
    }
}
