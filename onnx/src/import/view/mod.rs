//! Layouts of a computed tensor: transposed, reshaped or flattened relative to its value in the graph.
//!
//! Values of the graph are NCHW. A file may compute with channels last, split the channels into groups, or flatten
//! after a Transpose. Transpose, Reshape, Squeeze and Unsqueeze therefore compute nothing here. They only change the
//! view through which later nodes read the same value. When a later node refers to an axis of the file's tensor, the
//! view gives the corresponding dimension of the value. A Transpose that is undone later leaves no trace. One that only
//! reorders the channels (a channel shuffle) becomes a gather of channels.

mod channels;
mod conversion;
mod import;
mod order;
mod reduce;
mod reshape;

pub(super) use reduce::Normalised;

use crate::{Shape, graph::ValueId};

/// Maximum number of axes of a view, without the batch.
const MAX_AXES: usize = 8;
/// Maximum number of characters of a name in a view.
const MAX_NAME: usize = 100;

/// The dimension of the graph's value to which a factor belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Channels,
    Rows,
    Columns,
}

const PARTS: [Part; 3] = [Part::Channels, Part::Rows, Part::Columns];

/// A factor of a dimension's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Factor {
    size: usize,
    part: Part,
}

/// A tensor of the file whose layout differs from that of its value in the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) value: ValueId,
    /// Factors whose row-major product enumerates the value: those of C, H and W of a map or of a flattened map, or
    /// those of F.
    factors: Vec<Factor>,
    /// For each axis after the batch, the factors that it enumerates, slowest first. Factors of size 1 may be missing.
    axes: Vec<Vec<usize>>,
    /// Name of the node that changed the layout, or of the input that has another one.
    origin: Option<String>,
}

impl View {
    /// Returns the view of a value in its own layout.
    pub(super) fn plain(value: ValueId, shape: Shape) -> Self {
        let factors = parts(shape);
        let axes = (0..factors.len()).map(|factor| vec![factor]).collect();
        Self {
            value,
            factors,
            axes,
            origin: None,
        }
    }

    /// Returns the view of a vector as the map that was flattened.
    fn flattened(value: ValueId, map: Shape) -> Self {
        let factors = parts(map);
        Self {
            value,
            axes: vec![(0..factors.len()).collect()],
            factors,
            origin: None,
        }
    }

    /// Returns the view of an image that is `[N, H, W, C]` in the file.
    pub(super) fn channels_last(value: ValueId, shape: Shape, origin: String) -> Self {
        let view = Self::plain(value, shape);
        Self {
            axes: [1, 2, 0]
                .iter()
                .filter_map(|&axis| view.axes.get(axis).cloned())
                .collect(),
            origin: Some(origin),
            ..view
        }
    }

    /// Returns the view of tokens `[N, L, C]`, whose value is the map `[C, L, 1]`.
    pub(super) fn tokens(value: ValueId, shape: Shape, origin: String) -> Self {
        let view = Self::plain(value, shape);
        Self {
            axes: vec![vec![1], vec![0]],
            origin: Some(origin),
            ..view
        }
    }

    /// Returns the sizes of the file's tensor after the batch.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| self.product(axis)).collect()
    }

    fn product(&self, axis: &[usize]) -> usize {
        axis.iter()
            .fold(1, |product, &factor| self.factors[factor].size.saturating_mul(product))
    }

    /// Returns the number of axes of the file's tensor, including the batch.
    pub(super) fn rank(&self) -> usize {
        self.axes.len() + 1
    }

    /// Describes the layout for error messages.
    pub(super) fn describe(&self) -> String {
        let dims: Vec<String> = self.dims().iter().map(ToString::to_string).collect();
        let dims = dims.join(", ");
        match &self.origin {
            None => format!("[N, {dims}], channels first"),
            Some(origin) => format!(
                "[N, {dims}], in a layout that {origin} brings about and nothing before this node undoes\n  hint: {}",
                if self.is_channels(self.rank() - 1) {
                    "export the model channels first (NCHW)"
                } else {
                    "export the model without exchanging or merging height, width and channels there"
                }
            ),
        }
    }

    /// Returns the factors of an axis that have more than one element.
    fn significant(&self, axis: &[usize]) -> Vec<usize> {
        axis.iter()
            .copied()
            .filter(|&factor| self.factors[factor].size > 1)
            .collect()
    }

    /// Returns the factors of `part` that have more than one element.
    fn of_part(&self, part: Part) -> Vec<usize> {
        let of_part = (0..self.factors.len()).filter(|&factor| self.factors[factor].part == part);
        self.significant(&of_part.collect::<Vec<_>>())
    }

    /// Returns the factors of an axis (counted with the batch); `None` for the batch itself.
    fn axis(&self, axis: usize) -> Option<&[usize]> {
        self.axes.get(axis.checked_sub(1)?).map(Vec::as_slice)
    }

    /// Returns the part that `axis` (counted with the batch) enumerates, if it is exactly one part in the order of the
    /// value.
    pub(super) fn part(&self, axis: usize) -> Option<Part> {
        let axis = self.axis(axis)?;
        let part = self.factors[*axis.first()?].part;
        let whole = axis
            .iter()
            .all(|&factor| self.factors[factor].part == part || self.factors[factor].size == 1);
        (whole && self.significant(axis) == self.of_part(part)).then_some(part)
    }

    /// Returns whether `axis` (counted with the batch) enumerates exactly the channels of a map.
    pub(super) fn is_channels(&self, axis: usize) -> bool {
        let own = |axis: &[usize]| axis.iter().any(|&factor| self.factors[factor].part == Part::Channels);
        self.axis(axis)
            .is_some_and(|axis| own(axis) && self.significant(axis) == self.of_part(Part::Channels))
    }

    /// Returns whether the tensor is a vector, or has channels, rows and columns in any order.
    pub(super) fn is_whole(&self) -> bool {
        self.rank() == 2
            || (1..self.rank())
                .all(|axis| self.part(axis).is_some() || self.axis(axis).is_some_and(|axis| self.product(axis) == 1))
    }

    /// Returns whether the tensor has the layout of its value in the graph.
    fn is_plain(&self, shape: Shape) -> bool {
        let order = self.significant(&self.axes.concat());
        self.dims() == shape.dims() && order.is_sorted()
    }

    /// Returns the view with `origin` as the node that changed the layout, unless an earlier node is already recorded.
    fn named(mut self, origin: &str) -> Self {
        // Truncated, because every later view contains the name.
        self.origin
            .get_or_insert_with(|| format!("`{}`", origin.chars().take(MAX_NAME).collect::<String>()));
        self
    }
}

/// Returns the factors of a value in its own layout.
fn parts(shape: Shape) -> Vec<Factor> {
    let sizes = shape.dims().iter().zip(PARTS);
    sizes.map(|(&size, part)| Factor { size, part }).collect()
}
