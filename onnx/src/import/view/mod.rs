//! Layouts of a computed tensor: transposed, reshaped or flattened relative to its value in the graph.
//!
//! Values of the graph are NCHW. A file may compute with channels last, split the channels into groups, or flatten
//! after a Transpose. Transpose, Reshape, Squeeze and Unsqueeze therefore compute nothing here. They only change the
//! view through which later nodes read the same value. When a later node refers to an axis of the file's tensor, the
//! view gives the corresponding dimension of the value. A Transpose that is undone later leaves no trace. One that only
//! reorders the channels (a channel shuffle) becomes a gather of channels.

mod channels;
mod import;

use super::{
    opaque::Tail,
    value::{Refusal, unsupported},
};
use crate::{Shape, Tensor, graph::ValueId};

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

/// The elements over which a norm is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Normalised {
    /// The channels of each pixel, or a vector.
    Channels,
    /// All pixels of each group of channels, with this number of groups.
    Groups(usize),
}

/// Identifies a factor across values of different sizes: its part, its stride within the part, and its size.
type Signature = (Part, usize, usize);

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

    /// Returns the transposed view: axis `i` of the result is axis `perm[i]`. Both count the batch, which must stay in
    /// front.
    pub(super) fn transposed(&self, perm: &[i64]) -> Option<Self> {
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
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
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
    fn merge(&mut self) {
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
    pub(super) fn of(&self, value: ValueId, shape: Shape) -> Option<Self> {
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
    fn unfactored(&mut self, length: usize) {
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
    pub(super) fn vector(&self, tensor: &Tensor) -> Option<Tensor> {
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

    fn signatures(&self, axis: &[usize]) -> Vec<Signature> {
        let signature = |factor: usize| {
            let Factor { size, part } = self.factors[factor];
            let later = self.factors[factor + 1..].iter().filter(|other| other.part == part);
            (part, later.map(|other| other.size).product(), size)
        };
        self.significant(axis).into_iter().map(signature).collect()
    }

    /// Returns the layout of the result of an operation on two tensors, if their layouts agree in all dimensions in
    /// which both have several elements.
    pub(super) fn joined(&self, other: &Self) -> Option<Self> {
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
    pub(super) fn averaged(&self, axes: &[usize], keep: bool) -> Option<Self> {
        self.reduced(axes, &[Part::Rows, Part::Columns], keep)
    }

    /// Returns the layout after `parts` are reduced to one element, if `axes` (counted with the batch) enumerate
    /// exactly these parts.
    pub(super) fn reduced(&self, axes: &[usize], parts: &[Part], keep: bool) -> Option<Self> {
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
    pub(super) fn normalised(&self, axes: &[usize], shape: Shape) -> Option<Normalised> {
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

    /// Returns the view with `origin` as the node that changed the layout, unless an earlier node is already recorded.
    fn named(mut self, origin: &str) -> Self {
        // Truncated, because every later view contains the name.
        self.origin
            .get_or_insert_with(|| format!("`{}`", origin.chars().take(MAX_NAME).collect::<String>()));
        self
    }

    /// Returns constants of a layer `[C]`. They must vary only along the channels of a map, or be constant over the
    /// batch of a vector.
    pub(super) fn per_channel(&self, constant: &Tensor, shape: Shape) -> Result<Tensor, Refusal> {
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

impl View {
    /// Returns the conversion from the value to the file's tensor.
    pub(super) fn head(&self, shape: Shape) -> Tail {
        let all = self.significant(&(0..self.factors.len()).collect::<Vec<_>>());
        let order = self.significant(&self.axes.concat());
        let sizes: Vec<usize> = all.iter().map(|&factor| self.factors[factor].size).collect();
        let place = |factor: &usize| all.iter().position(|own| own == factor).map(|place| place + 1);
        let perm: Vec<usize> = [0].into_iter().chain(order.iter().filter_map(place)).collect();
        steps(shape.dims(), sizes, perm, self.dims())
    }

    /// Returns the conversion from the file's tensor to the value.
    pub(super) fn tail(&self, shape: Shape) -> Tail {
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

/// Returns the factors of a value in its own layout.
fn parts(shape: Shape) -> Vec<Factor> {
    let sizes = shape.dims().iter().zip(PARTS);
    sizes.map(|(&size, part)| Factor { size, part }).collect()
}
