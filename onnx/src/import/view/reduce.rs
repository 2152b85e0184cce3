//! Views of the result of an operation on two tensors, of a mean and of a norm.

use super::{Factor, Part, View};
use crate::Shape;

/// The elements over which a norm is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Normalised {
    /// The channels of each pixel, or a vector.
    Channels,
    /// All pixels of each group of channels, with this number of groups.
    Groups(usize),
}

/// Identifies a factor across values of different sizes: its part, its stride within the part, and its size.
type Signature = (Part, usize, usize);

impl View {
    pub(super) fn signatures(&self, axis: &[usize]) -> Vec<Signature> {
        let signature = |factor: usize| {
            let Factor { size, part } = self.factors[factor];
            let later = self.factors[factor + 1..].iter().filter(|other| other.part == part);
            (part, later.map(|other| other.size).product(), size)
        };
        self.significant(axis).into_iter().map(signature).collect()
    }

    /// Returns the layout of the result of an operation on two tensors, if their layouts agree in all dimensions in
    /// which both have several elements.
    pub(in super::super) fn joined(&self, other: &Self) -> Option<Self> {
        // With fewer axes, the batch would be aligned with another axis.
        if self.rank() != other.rank() {
            return None;
        }
        let elements = |view: &Self| {
            view.dims()
                .iter()
                .fold(1_usize, |product, &dim| product.saturating_mul(dim))
        };
        let (large, small) = if elements(self) >= elements(other) {
            (self, other)
        } else {
            (other, self)
        };
        let agree = large.axes.iter().zip(&small.axes).all(|(axis, others)| {
            let others = small.signatures(others);
            others.is_empty() || large.signatures(axis) == others
        });
        agree.then(|| Self {
            origin: self.origin.clone().or_else(|| other.origin.clone()),
            ..large.clone()
        })
    }

    /// Returns the layout after a mean over `axes` (counted with the batch), if these are exactly height and width.
    pub(in super::super) fn averaged(&self, axes: &[usize], keep: bool) -> Option<Self> {
        self.reduced(axes, &[Part::Rows, Part::Columns], keep)
    }

    /// Returns the layout after `parts` are reduced to one element, if `axes` (counted with the batch) enumerate
    /// exactly these parts.
    pub(in super::super) fn reduced(&self, axes: &[usize], parts: &[Part], keep: bool) -> Option<Self> {
        let gone = axes
            .iter()
            .map(|&axis| self.axis(axis))
            .collect::<Option<Vec<_>>>()?
            .concat();
        let mut gone = self.significant(&gone);
        gone.sort_unstable();
        let mut wanted = parts.iter().flat_map(|&part| self.of_part(part)).collect::<Vec<_>>();
        wanted.sort_unstable();
        if gone != wanted {
            return None;
        }
        let kept = self.axes.iter().enumerate().filter_map(|(place, axis)| {
            if axes.contains(&(place + 1)) {
                keep.then(Vec::new)
            } else {
                Some(axis.clone())
            }
        });
        let mut view = Self {
            axes: kept.collect(),
            ..self.clone()
        };
        for factor in &mut view.factors {
            if parts.contains(&factor.part) {
                factor.size = 1;
            }
        }
        view.merge();
        Some(view)
    }

    /// Returns the kind of a norm over `axes` (counted with the batch).
    pub(in super::super) fn normalised(&self, axes: &[usize], shape: Shape) -> Option<Normalised> {
        let gone = axes
            .iter()
            .map(|&axis| self.axis(axis))
            .collect::<Option<Vec<_>>>()?
            .concat();
        let mut gone = self.significant(&gone);
        gone.sort_unstable();
        let all = self.significant(&(0..self.factors.len()).collect::<Vec<_>>());
        let channels: Vec<usize> = match shape {
            Shape::Map(_) => self.of_part(Part::Channels),
            Shape::Vector(_) => all.clone(),
        };
        if gone == channels {
            return Some(Normalised::Channels);
        }
        // The norm covers all factors except the slowest, which are channels.
        let kept = all.strip_suffix(&gone[..])?;
        let groups = matches!(shape, Shape::Map(_)) && channels.starts_with(kept);
        groups.then(|| Normalised::Groups(self.product(kept)))
    }
}
