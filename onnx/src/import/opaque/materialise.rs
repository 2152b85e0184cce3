//! Opaque steps in the graph. They are placeholders during the conversion of nodes, and are filled at the end.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Import, Takes,
        value::{Dim, Value},
        view::View,
    },
    Foreign, Kind,
    region::Tail,
};
use crate::{
    Shape,
    graph::{Node, Op, ValueId},
    opaque::Opaque,
    proto::GraphProto,
};

/// An opaque step that has not been filled yet.
#[derive(Clone)]
pub(in super::super) struct Placeholder<'a> {
    /// The value of the file.
    pub(super) name: &'a str,
    pub(super) tail: Tail,
}

impl<'a> Import<'a> {
    /// Returns the value of the graph that represents a foreign value of the file, in the file's layout. Returns `None`
    /// if the value's shape cannot be represented.
    pub(in super::super) fn materialised(&mut self, name: &'a str, foreign: &Foreign) -> Option<Value> {
        if let Some(value) = self.materialised.get(name) {
            return Some(value.clone());
        }
        let dims = self.after_batch(foreign)?;
        let (shape, tail) = match dims[..] {
            [height, width, channels] if self.takes == Takes::ChannelsLast => (
                Shape::Map([channels, height, width]),
                Tail {
                    perm: Some(vec![0, 3, 1, 2]),
                    ..Tail::default()
                },
            ),
            [length] => (Shape::Vector(length), Tail::default()),
            [channels, height, width] => (Shape::Map([channels, height, width]), Tail::default()),
            // Tokens: the channels come last.
            [length, channels] => (
                Shape::Map([channels, length, 1]),
                Tail {
                    perm: Some(vec![0, 2, 1]),
                    dims: Some(vec![channels, length, 1]),
                    split: None,
                },
            ),
            _ => return None,
        };
        let (tokens, last) = (dims.len() == 2, tail.perm.is_some());
        let id = self.place(name, shape, tail)?;
        let value = if tokens {
            Value::View(View::tokens(id, shape, format!("`{name}`")))
        } else if last {
            Value::View(View::channels_last(id, shape, format!("`{name}`")))
        } else {
            Value::Data(id)
        };
        self.materialised.insert(name, value.clone());
        Some(value)
    }

    /// Returns the value of the graph for a foreign value in the layout of `view`, so that both can be added.
    pub(in super::super) fn materialised_like(
        &mut self,
        name: &'a str,
        foreign: &Foreign,
        view: &View,
    ) -> Option<Value> {
        let dims = self.after_batch(foreign)?;
        if let Some(value) = self.materialised.get(name) {
            return Some(value.clone());
        }
        let shape = self.shape(view.value);
        if dims != view.dims() || dims.iter().product::<usize>() != shape.elements() {
            return None;
        }
        let tail = view.tail(shape);
        let id = self.place(name, shape, tail)?;
        let value = Value::View(view.clone().on(id));
        self.materialised.insert(name, value.clone());
        Some(value)
    }

    /// Returns the file's tensor as a map of the graph, if a view of another value has a different layout.
    pub(in super::super) fn plain(&mut self, name: &'a str, view: &View) -> Option<ValueId> {
        let &[channels, height, width] = &view.dims()[..] else {
            return None;
        };
        let possible = self.opset >= super::convert::OLDEST_OPSET && self.batch.is_none_or(|batch| batch == 1);
        if let Some(Value::Data(value)) = self.materialised.get(name) {
            return Some(*value);
        }
        possible.then_some(())?;
        let id = self.place(name, Shape::Map([channels, height, width]), Tail::default())?;
        self.materialised.insert(name, Value::Data(id));
        Some(id)
    }

    /// Returns the sizes after the batch, if the first axis is the batch.
    fn after_batch(&self, foreign: &Foreign) -> Option<Vec<usize>> {
        let (first, rest) = foreign.dims.split_first()?;
        (foreign.kind == Kind::Float && *first == self.batch_dim()).then_some(())?;
        rest.iter()
            .map(|dim| match dim {
                Dim::Known(size) => usize::try_from(*size).ok().filter(|&size| size > 0),
                Dim::Batch(_) => None,
            })
            .collect()
    }

    fn place(&mut self, name: &'a str, shape: Shape, tail: Tail) -> Option<ValueId> {
        let producer = *self.producers.get(name)?;
        let node = super::super::order::free(&mut self.taken, format!("{}.opaque", self.names[producer]));
        let empty = Opaque::new(self.opset, GraphProto::default(), Vec::new(), shape, false);
        self.nodes.push(Node {
            name: node,
            op: Op::Opaque(empty.into()),
            inputs: Vec::new(),
        });
        self.shapes.push(shape);
        let id = ValueId(self.nodes.len());
        self.placeholders.insert(id, Placeholder { name, tail });
        Some(id)
    }

    /// Fills the opaque steps that `output` depends on, drops everything else, and returns the output's new index.
    pub(in super::super) fn fill(&mut self, output: ValueId) -> Result<ValueId, String> {
        // The first pass assumes that no step can read the result of another, to find out which steps are needed at
        // all.
        let live = self.reached(output, &HashMap::new())?;
        let cuts: HashMap<&'a str, ValueId> = self
            .placeholders
            .iter()
            .filter(|(id, _)| live.contains(id))
            .map(|(&id, placeholder)| (placeholder.name, id))
            .collect();
        let live = self.reached(output, &cuts)?;
        for id in self.placeholders.keys().copied().collect::<Vec<_>>() {
            if !live.contains(&id) {
                continue;
            }
            let (step, inputs) = self.region(id, &cuts)?;
            let Some(index) = id.producer() else { continue };
            self.nodes[index].op = Op::Opaque(step.into());
            self.nodes[index].inputs = inputs;
        }
        Ok(self.drop_dead(output, &live))
    }

    /// Returns a note on opaque steps, if there are any.
    pub(in super::super) fn opaque_note(&self) -> Option<String> {
        let steps: Vec<&Opaque> = self
            .nodes
            .iter()
            .filter_map(|node| match &node.op {
                Op::Opaque(step) => Some(&**step),
                _ => None,
            })
            .collect();
        let (first, more) = steps.split_first().map(|(first, rest)| (first, !rest.is_empty()))?;
        let mut operators: Vec<&str> = first.operators().collect();
        steps.iter().skip(1).for_each(|step| operators.extend(step.operators()));
        operators.sort_unstable();
        operators.dedup();
        let batch = if first.is_single() {
            "; the file fixes a batch of 1 for them, and so does the backbone's"
        } else {
            ""
        };
        Some(format!(
            "{} {} kept as the file's own nodes, since the graph has no operation for them ({}): training reaches down to the last \
             of them{batch}",
            steps.len(),
            if more {
                "parts of the network are"
            } else {
                "part of the network is"
            },
            operators.join(", ")
        ))
    }

    /// Returns the values that `output` depends on.
    fn reached(&self, output: ValueId, cuts: &HashMap<&'a str, ValueId>) -> Result<HashSet<ValueId>, String> {
        let mut live = HashSet::from([output]);
        for index in (0..self.nodes.len()).rev() {
            let id = ValueId::of_node(index);
            if !live.contains(&id) {
                continue;
            }
            if self.placeholders.contains_key(&id) {
                live.extend(self.region_inputs(id, cuts)?);
            } else {
                live.extend(self.nodes[index].inputs.iter().copied());
            }
        }
        Ok(live)
    }

    fn drop_dead(&mut self, output: ValueId, live: &HashSet<ValueId>) -> ValueId {
        let mut places = vec![ValueId::IMAGE; self.nodes.len() + 1];
        let mut kept = Vec::with_capacity(self.nodes.len());
        let mut shapes = vec![self.shapes[0]];
        for (index, mut node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            let id = ValueId::of_node(index);
            if !live.contains(&id) {
                continue;
            }
            node.inputs.iter_mut().for_each(|input| *input = places[input.0]);
            kept.push(node);
            shapes.push(self.shapes[id.0]);
            places[id.0] = ValueId(kept.len());
        }
        self.nodes = kept;
        self.shapes = shapes;
        places[output.0]
    }
}
