//! Use of views in an import: values of names, and nodes on views.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Refusal, Value, unsupported},
    },
    MAX_AXES, View,
};
use crate::{
    Shape,
    graph::{Op, ValueId},
};

impl<'a> Import<'a> {
    /// Returns input `index`, which must be computed from the image, with its layout.
    pub(in super::super) fn view(&mut self, source: Source<'a>, index: usize) -> Result<View, Refusal> {
        match self.value(source, index)? {
            Value::Data(value) => Ok(match self.flattened(value).map(|map| self.shape(map)) {
                Some(map) => View::flattened(value, map),
                None => View::plain(value, self.shape(value)),
            }),
            Value::View(view) => Ok(view),
            other => unsupported(format!(
                "input {index}: expected a computed value, got {}",
                other.describe()
            )),
        }
    }

    /// Returns the value of a name in the file. If the view does not differ from the graph's layout, this is the plain
    /// value.
    pub(in super::super) fn settled(&self, source: Source<'a>, view: View) -> Value {
        if view.is_plain(self.shape(view.value)) {
            Value::Data(view.value)
        } else {
            Value::View(view.named(source.name))
        }
    }

    /// Adds a node that reads one value; its result has the layout of `view`.
    pub(in super::super) fn push_on(&mut self, source: Source<'a>, op: Op, view: &View) -> Converted {
        let value = self.push(source.name, op, vec![view.value])?;
        self.arranged(source, &value, view)
    }

    /// Returns the value of a node that was just added, in the layout of `view`.
    pub(in super::super) fn arranged(&self, source: Source<'a>, value: &Value, view: &View) -> Converted {
        match *value {
            Value::Data(value) => match view.of(value, self.shape(value)) {
                Some(view) => Ok(self.settled(source, view)),
                None => unsupported(format!("of {}", view.describe())),
            },
            ref other => Ok(other.clone()),
        }
    }

    /// Returns the tensor of `view` with other sizes. Flattens it or reverses a flattening if the rank requires it.
    /// Returns `None` if this is impossible.
    pub(in super::super) fn resized(
        &mut self,
        source: Source<'a>,
        view: &View,
        dims: &[usize],
    ) -> Result<Option<Value>, Refusal> {
        let Some(mut resized) = view.reshaped(dims).filter(|_| dims.len() <= MAX_AXES) else {
            return Ok(None);
        };
        resized = self.unshuffled(source, resized)?;
        match (self.shape(resized.value), dims.len()) {
            (Shape::Map(_), 1) => {
                resized.value = self.pushed(source, Op::Flatten, resized.value)?;
            }
            (Shape::Vector(length), 3) => {
                let mut single = resized.clone();
                single.unfactored(length);
                if single.factors.len() == 1 {
                    // All factors are channels, so the vector becomes a map of one pixel.
                    let value = self.pushed(source, Op::Unflatten, resized.value)?;
                    resized = single.as_pixel(value);
                } else if let Some(map) = self.flattened(resized.value)
                    && let Some(view) = resized.of(map, self.shape(map))
                {
                    // A flattened map becomes a map again.
                    resized = view;
                }
            }
            _ => {}
        }
        Ok(Some(self.settled(source, resized)))
    }

    /// If the view only permutes the channels (a channel shuffle), returns the view of a value with its channels in
    /// that order.
    pub(in super::super) fn unshuffled(&mut self, source: Source<'a>, view: View) -> Result<View, Refusal> {
        let Some((index, mut view)) = view.shuffled(self.shape(view.value)) else {
            return Ok(view);
        };
        self.budget.make(index.len())?;
        view.value = self.pushed_helper(
            source,
            "shuffle",
            Op::GatherChannels { index: index.into() },
            view.value,
        )?;
        Ok(view)
    }

    /// Adds an additional node for the same node of the file; it reads one value.
    pub(in super::super) fn pushed_helper(
        &mut self,
        source: Source<'a>,
        suffix: &str,
        op: Op,
        value: ValueId,
    ) -> Result<ValueId, Refusal> {
        match self.push_helper(source, suffix, op, vec![value])? {
            Value::Data(value) => Ok(value),
            _ => Err(Refusal::Tainted),
        }
    }

    /// If `view` repeats one value at every pixel and the other operand has all pixels, returns a map of one pixel in
    /// its place.
    pub(in super::super) fn unexpanded(&self, view: &View, other: &View) -> View {
        let unexpanded = || {
            let node = self.nodes.get(view.value.producer()?)?;
            let &[input] = &node.inputs[..] else { return None };
            let full = self.shape(other.value) == self.shape(view.value) && other.value != view.value;
            let one = matches!(self.shape(input), Shape::Map([_, 1, 1]));
            (matches!(node.op, Op::Resize(_)) && one && full && view.is_plain(self.shape(view.value)))
                .then(|| View::plain(input, self.shape(input)))
        };
        unexpanded().unwrap_or_else(|| view.clone())
    }

    fn pushed(&mut self, source: Source<'a>, op: Op, value: ValueId) -> Result<ValueId, Refusal> {
        // If one node of the file becomes several nodes, each needs its own name.
        let taken = self.nodes.iter().rev().take(8).any(|node| node.name == source.name);
        if taken {
            return self.pushed_helper(source, "form", op, value);
        }
        match self.push(source.name, op, vec![value])? {
            Value::Data(value) => Ok(value),
            _ => Err(Refusal::Tainted),
        }
    }

    /// Returns the map whose flattening is `value`.
    fn flattened(&self, value: ValueId) -> Option<ValueId> {
        let node = &self.nodes[value.producer()?];
        (node.op == Op::Flatten).then(|| node.inputs[0])
    }
}
