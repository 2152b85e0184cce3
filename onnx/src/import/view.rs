//! Arrangements of a computed tensor: transposed, reshaped or flattened relative to its value in the graph.
//!
//! Values of the graph are NCHW. A file may compute channels last, or flatten after a Transpose. Transpose, Reshape,
//! Squeeze and Unsqueeze therefore compute nothing here: they change how later nodes see the same value. Whatever reads
//! the value names the axis that it works on, and that axis is looked up. A Transpose that is undone leaves no trace.

use super::{
    Import,
    attributes::Source,
    value::{Converted, Refusal, Value, unsupported},
};
use crate::{
    Shape, Tensor,
    graph::{Op, ValueId},
};

/// The most axes of a view, the batch left out.
const MAX_AXES: usize = 8;
/// The most characters of a name that a view holds.
const MAX_NAME: usize = 100;

/// A tensor of the file that is not laid out like its value in the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) value: ValueId,
    /// Sizes whose row-major product enumerates the value: `[C, H, W]` of a map or of a flattened map, or `[F]`.
    factors: Vec<usize>,
    /// The factors that each axis behind the batch enumerates, slowest first. Those of size 1 may be missing.
    axes: Vec<Vec<usize>>,
    /// The node that left the layout of the graph, or the input that never had it.
    origin: Option<String>,
}

impl View {
    /// A value as it is in the graph.
    pub(super) fn plain(value: ValueId, shape: Shape) -> Self {
        let factors = shape.dims().to_vec();
        let axes = (0..factors.len()).map(|factor| vec![factor]).collect();
        Self {
            value,
            factors,
            axes,
            origin: None,
        }
    }

    /// The image, `[N, H, W, C]` in the file.
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

    /// The sizes of the file's tensor behind the batch.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| self.product(axis)).collect()
    }

    fn product(&self, axis: &[usize]) -> usize {
        axis.iter()
            .fold(1, |product, &factor| self.factors[factor].saturating_mul(product))
    }

    /// Axes of the file's tensor, the batch included.
    pub(super) fn rank(&self) -> usize {
        self.axes.len() + 1
    }

    /// For messages: what is in the way.
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

    /// The factors of an axis that have more than one element.
    fn significant(&self, axis: &[usize]) -> Vec<usize> {
        axis.iter()
            .copied()
            .filter(|&factor| self.factors[factor] > 1)
            .collect()
    }

    /// Whether `axis` (counted with the batch) enumerates the channels of a map and nothing else.
    pub(super) fn is_channels(&self, axis: usize) -> bool {
        axis.checked_sub(1)
            .and_then(|axis| self.axes.get(axis))
            .is_some_and(|axis| {
                axis.contains(&0) && axis.iter().all(|&factor| factor == 0 || self.factors[factor] == 1)
            })
    }

    /// The factor that `axis` (counted with the batch) enumerates, if it is exactly one.
    pub(super) fn factor(&self, axis: usize) -> Option<usize> {
        match self.axes.get(axis.checked_sub(1)?)?[..] {
            [factor] => Some(factor),
            _ => None,
        }
    }

    /// Whether the tensor is the value as it is in the graph.
    fn is_plain(&self, shape: Shape) -> bool {
        let order = self.significant(&self.axes.concat());
        self.dims() == shape.dims() && order.is_sorted()
    }

    /// Axis `i` of the result is axis `perm[i]`; both count the batch, which must stay in front.
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

    /// The same elements under other sizes (the batch left out), if no factor is split.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        if self.dims() == dims {
            return Some(self.clone());
        }
        let order = self.significant(&self.axes.concat());
        let mut rest = order.iter().copied().peekable();
        let mut axes = Vec::with_capacity(dims.len());
        for &dim in dims {
            let (mut axis, mut product) = (Vec::new(), 1);
            while product < dim {
                let factor = rest.next()?;
                product = self.factors[factor].checked_mul(product)?;
                axis.push(factor);
            }
            (product == dim).then(|| axes.push(axis))?;
        }
        rest.peek().is_none().then(|| Self { axes, ..self.clone() })
    }

    /// The same arrangement of another value, of the same shape up to the number of channels.
    fn of(&self, value: ValueId, shape: Shape) -> Self {
        let mut view = Self { value, ..self.clone() };
        match shape {
            Shape::Map(dims) => view.factors = dims.to_vec(),
            Shape::Vector(length) => view.unfactored(length),
        }
        view
    }

    /// Forgets factors of size 1, so that at most one of `length` is left; nothing where several are larger.
    fn unfactored(&mut self, length: usize) {
        if self.factors.iter().filter(|&&factor| factor > 1).count() > 1 {
            return;
        }
        for axis in &mut self.axes {
            *axis = axis
                .iter()
                .any(|&factor| self.factors[factor] > 1)
                .then_some(0)
                .into_iter()
                .collect();
        }
        self.factors = vec![length];
    }

    /// For every place along the only axis of a vector, the place in the graph's vector; `None` if it is the same.
    fn places(&self) -> Option<Vec<usize>> {
        let [axis] = &self.axes[..] else { return None };
        let axis = self.significant(axis);
        if axis.is_sorted() {
            return None;
        }
        let stride = |factor: usize| self.factors[factor + 1..].iter().product::<usize>();
        let places = (0..self.product(&axis)).map(|index| {
            let mut rest = index;
            axis.iter().rev().fold(0, |place, &factor| {
                let digit = rest % self.factors[factor];
                rest /= self.factors[factor];
                place + digit * stride(factor)
            })
        });
        Some(places.collect())
    }

    /// Rows of values, one for each place of a flattened vector, in the order of the graph's vector; `None` if it is no
    /// vector or has another length.
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

    /// A constant that broadcasts over everything but the channels of a map, or over the batch of a vector, as `[C]`.
    pub(super) fn per_channel(&self, constant: &Tensor, shape: Shape) -> Result<Tensor, Refusal> {
        let channels = shape.channels();
        let fail = || {
            let dims: Vec<String> = self.dims().iter().map(ToString::to_string).collect();
            unsupported(format!(
                "a constant {:?} next to [N, {}]: expected one value, or one per channel",
                constant.shape(),
                dims.join(", ")
            ))
        };
        if let &[value] = constant.data() {
            return Ok(Tensor::new([channels], vec![value; channels]));
        }
        let dims = constant.shape();
        let Some(shift) = self.rank().checked_sub(dims.len()) else {
            return fail();
        };
        let mut wide = dims.iter().enumerate().filter(|&(_, &dim)| dim != 1);
        let (Some((place, &length)), None) = (wide.next(), wide.next()) else {
            return fail();
        };
        let fits = match shape {
            Shape::Map(_) => self.is_channels(place + shift),
            Shape::Vector(_) => self.rank() == 2 && place + shift == 1,
        };
        if !fits || length != channels {
            return fail();
        }
        let values = Tensor::new([channels], constant.shared());
        Ok(match shape {
            Shape::Map(_) => values,
            Shape::Vector(_) => self.in_graph_order(&values),
        })
    }

    /// How the result of an operation on two tensors is arranged, if their layouts agree wherever both have elements.
    pub(super) fn joined(&self, other: &Self) -> Option<Self> {
        // Fewer axes would put the batch next to another axis.
        if self.rank() != other.rank() || self.factors.len() != other.factors.len() {
            return None;
        }
        let mut axes = Vec::with_capacity(self.axes.len());
        for (left, right) in self.axes.iter().zip(&other.axes) {
            let (own, others) = (self.significant(left), other.significant(right));
            let same = own == others && own.iter().all(|&factor| self.factors[factor] == other.factors[factor]);
            axes.push(match (own.is_empty(), others.is_empty()) {
                (false, true) => left.clone(),
                (true, false) => right.clone(),
                _ if same => if left.len() >= right.len() { left } else { right }.clone(),
                _ => return None,
            });
        }
        Some(Self {
            axes,
            origin: self.origin.clone().or_else(|| other.origin.clone()),
            ..self.clone()
        })
    }

    /// The first of `views` that cannot be concatenated with this one along `axis` (counted with the batch), the channels.
    pub(super) fn stranger<'v>(&self, views: &'v [Self], axis: usize) -> Option<&'v Self> {
        views.iter().find(|other| {
            let alike =
                |at: usize| at + 1 == axis || self.significant(&self.axes[at]) == other.significant(&other.axes[at]);
            !other.is_channels(axis) || other.rank() != self.rank() || !(0..self.axes.len()).all(alike)
        })
    }

    /// The arrangement after a mean over `axes` (counted with the batch), if these are all of height and width.
    pub(super) fn averaged(&self, axes: &[usize], keep: bool) -> Option<Self> {
        let reduced: Vec<usize> = axes
            .iter()
            .map(|axis| self.axes.get(axis.checked_sub(1)?).cloned())
            .collect::<Option<Vec<_>>>()?
            .concat();
        let mut reduced = self.significant(&reduced);
        reduced.sort_unstable();
        let [channels, height, width] = self.factors[..] else {
            return None;
        };
        let spatial: Vec<usize> = [(1, height), (2, width)]
            .iter()
            .filter_map(|&(factor, size)| (size > 1).then_some(factor))
            .collect();
        if reduced != spatial {
            return None;
        }
        let kept = self.axes.iter().enumerate().filter_map(|(place, axis)| {
            if axes.contains(&(place + 1)) {
                keep.then(Vec::new)
            } else {
                Some(axis.clone())
            }
        });
        Some(Self {
            axes: kept.collect(),
            factors: vec![channels, 1, 1],
            ..self.clone()
        })
    }

    /// The same, with the node that made it so unless one did before.
    fn named(mut self, origin: &str) -> Self {
        // Cut, since every view that follows holds it.
        self.origin
            .get_or_insert_with(|| format!("`{}`", origin.chars().take(MAX_NAME).collect::<String>()));
        self
    }
}

impl<'a> Import<'a> {
    /// Input `index`, computed from the image, and its layout.
    pub(super) fn view(&mut self, source: Source<'a>, index: usize) -> Result<View, Refusal> {
        match self.value(source, index)? {
            Value::Data(value) => {
                let view = View::plain(value, self.shape(value));
                Ok(match self.flattened(value).map(|map| self.shape(map)) {
                    Some(Shape::Map(dims)) => View {
                        factors: dims.to_vec(),
                        axes: vec![vec![0, 1, 2]],
                        ..view
                    },
                    _ => view,
                })
            }
            Value::View(view) => Ok(view),
            other => unsupported(format!(
                "input {index}: expected a computed value, got {}",
                other.describe()
            )),
        }
    }

    /// What a name of the file stands for: the value itself where nothing is left of the other layout.
    pub(super) fn settled(&self, source: Source<'a>, view: View) -> Value {
        if view.is_plain(self.shape(view.value)) {
            Value::Data(view.value)
        } else {
            Value::View(view.named(source.name))
        }
    }

    /// A new node on one value, arranged as `view` is.
    pub(super) fn push_on(&mut self, source: Source<'a>, op: Op, view: &View) -> Converted {
        let value = self.push(source.name, op, vec![view.value])?;
        Ok(self.arranged(source, &value, view))
    }

    /// The value of a node that was just pushed, arranged as `view` is.
    pub(super) fn arranged(&self, source: Source<'a>, value: &Value, view: &View) -> Value {
        match *value {
            Value::Data(value) => self.settled(source, view.of(value, self.shape(value))),
            ref other => other.clone(),
        }
    }

    /// The tensor of `view` under other sizes: a flattening or its reverse where the rank asks for it. `None`: not possible.
    pub(super) fn resized(
        &mut self,
        source: Source<'a>,
        view: &View,
        dims: &[usize],
    ) -> Result<Option<Value>, Refusal> {
        let Some(mut resized) = view.reshaped(dims).filter(|_| dims.len() <= MAX_AXES) else {
            return Ok(None);
        };
        match (self.shape(view.value), dims.len()) {
            (Shape::Map(_), 1) => resized.value = self.pushed(source, Op::Flatten, view.value)?,
            (Shape::Vector(length), 3) => {
                resized.unfactored(length);
                if resized.factors.len() == 1 {
                    // Nothing but channels: a map of one pixel.
                    resized.value = self.pushed(source, Op::Unflatten, view.value)?;
                    resized.factors = vec![length, 1, 1];
                } else {
                    // A map that was flattened and is a map again.
                    match self.flattened(view.value) {
                        Some(map) if self.shape(map).dims() == resized.factors => resized.value = map,
                        _ => return Ok(None),
                    }
                }
            }
            _ => {}
        }
        Ok(Some(self.settled(source, resized)))
    }

    fn pushed(&mut self, source: Source<'a>, op: Op, value: ValueId) -> Result<ValueId, Refusal> {
        match self.push(source.name, op, vec![value])? {
            Value::Data(value) => Ok(value),
            _ => Err(Refusal::Tainted),
        }
    }

    /// The map that `value` flattens.
    fn flattened(&self, value: ValueId) -> Option<ValueId> {
        let node = &self.nodes[value.producer()?];
        (node.op == Op::Flatten).then(|| node.inputs[0])
    }
}
