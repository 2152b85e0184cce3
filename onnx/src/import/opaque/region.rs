//! The nodes of one opaque step: from a value of the file back to values of the graph.

use std::collections::{HashMap, HashSet};

use super::super::{
    Import,
    constant::FLOATS,
    value::{Dim, Value},
    view::View,
};
use crate::{
    graph::ValueId,
    opaque::Opaque,
    proto::{AttributeProto, GraphProto, NodeProto, TensorProto},
    write::{OPSET, ints, raw_floats, raw_integers},
};

/// Maximum number of nodes in a step.
const MAX_NODES: usize = 4096;

/// Conversion of the file's tensor to the graph's value: split into factors, transpose, reshape. The batch stays in
/// front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Tail {
    pub(in super::super) split: Option<Vec<usize>>,
    pub(in super::super) perm: Option<Vec<usize>>,
    pub(in super::super) dims: Option<Vec<usize>>,
}

/// The nodes of a region, and the file's values that are values of the graph.
type Walk<'a> = (Vec<usize>, Vec<(&'a str, View)>);

/// Origin of a value that a region reads.
enum Source {
    /// A value of the graph.
    Graph(View),
    Constant,
    /// The value is computed by the node with this index.
    Node(usize),
}

impl<'a> Import<'a> {
    fn source_of(
        &self,
        name: &'a str,
        root: Option<ValueId>,
        cuts: &HashMap<&'a str, ValueId>,
    ) -> Result<Source, String> {
        if let Some(&cut) = cuts.get(name)
            && root.is_some_and(|root| cut < root)
            && let Some(value) = self.materialised.get(name)
        {
            return Ok(Source::Graph(match value {
                Value::View(view) => view.clone(),
                _ => View::plain(cut, self.shape(cut)),
            }));
        }
        let known = |values: &[Dim]| values.iter().all(|value| matches!(value, Dim::Known(_)));
        Ok(match self.values.get(name) {
            Some(Value::Data(value)) => Source::Graph(View::plain(*value, self.shape(*value))),
            Some(Value::View(view)) => Source::Graph(view.clone()),
            Some(Value::Tensor(_)) => Source::Constant,
            Some(Value::Integers { values, .. }) if known(values) => Source::Constant,
            Some(Value::Other(_)) if self.raw_constant(name).is_some() => Source::Constant,
            Some(Value::Integers { .. } | Value::Foreign(_)) => match self.producers.get(name) {
                Some(&node) => Source::Node(node),
                None => return Err(format!("nothing produces `{name}`")),
            },
            None if self.constants.contains_key(name) => Source::Constant,
            Some(Value::Quantised { .. } | Value::Bytes(_) | Value::Weight(_) | Value::Other(_) | Value::Unknown)
            | None => return Err(format!("`{name}` cannot be computed")),
        })
    }

    /// Returns the nodes of a region in the file's order, and the values of the graph that they read, in the order of
    /// first use.
    fn walk(&self, root: ValueId, cuts: &HashMap<&'a str, ValueId>) -> Result<Walk<'a>, String> {
        let Some(placeholder) = self.placeholders.get(&root) else {
            return Err("an opaque step without a value".to_owned());
        };
        let mut nodes = HashSet::new();
        let first = *self
            .producers
            .get(placeholder.name)
            .ok_or("nothing produces an opaque step's value")?;
        let mut open = vec![first];
        while let Some(index) = open.pop() {
            if !nodes.insert(index) {
                continue;
            }
            if nodes.len() > MAX_NODES {
                return Err(format!("an opaque step of more than {MAX_NODES} nodes"));
            }
            for name in super::super::order::inputs(&self.file.node[index]) {
                if let Source::Node(node) = self.source_of(name, Some(root), cuts)? {
                    open.push(node);
                }
            }
        }
        let mut order: Vec<usize> = nodes.into_iter().collect();
        order.sort_unstable_by_key(|&index| (self.places.get(&index).copied().unwrap_or(usize::MAX), index));
        let mut inputs: Vec<(&'a str, View)> = Vec::new();
        for &index in &order {
            for name in super::super::order::inputs(&self.file.node[index]) {
                if let Source::Graph(view) = self.source_of(name, Some(root), cuts)?
                    && !inputs.iter().any(|(known, _)| *known == name)
                {
                    inputs.push((name, view));
                }
            }
        }
        Ok((order, inputs))
    }

    /// Returns the values of the graph that an opaque step reads.
    pub(super) fn region_inputs(
        &self,
        root: ValueId,
        cuts: &HashMap<&'a str, ValueId>,
    ) -> Result<Vec<ValueId>, String> {
        let (_, inputs) = self.walk(root, cuts)?;
        let mut values: Vec<ValueId> = Vec::new();
        for (_, view) in inputs {
            if !values.contains(&view.value) {
                values.push(view.value);
            }
        }
        Ok(values)
    }

    /// Returns an opaque step and the values that it reads.
    pub(super) fn region(
        &mut self,
        root: ValueId,
        cuts: &HashMap<&'a str, ValueId>,
    ) -> Result<(Opaque, Vec<ValueId>), String> {
        let (order, inputs) = self.walk(root, cuts)?;
        let placeholder = self.placeholders[&root].clone();
        let values = self.region_inputs(root, cuts)?;
        let mut region = Region::default();
        for (name, view) in &inputs {
            let index = values.iter().position(|value| *value == view.value).unwrap_or(0);
            let own = Opaque::input_name(index);
            let laid_out = region.arranged(&own, &view.head(self.shape(view.value)));
            region.names.insert((*name).to_owned(), laid_out);
        }
        for &index in &order {
            let node = &self.file.node[index];
            for name in super::super::order::inputs(node) {
                if !region.names.contains_key(name)
                    && matches!(self.source_of(name, Some(root), cuts)?, Source::Constant)
                {
                    let tensor = self.stored(name)?;
                    region.constant(name, tensor);
                }
            }
            region.node(node);
        }
        let raw = region.names.get(placeholder.name).cloned().unwrap_or_default();
        let output = region.arranged(&raw, &placeholder.tail);
        region.rename(&output, Opaque::OUTPUT);
        let shapes = values.iter().map(|&value| self.shape(value)).collect();
        let step = Opaque::new(
            self.opset.max(OPSET),
            region.graph,
            shapes,
            self.shape(root),
            self.batch.is_some(),
        );
        Ok((step, values))
    }

    /// Returns a constant in the form in which a step stores it.
    pub(super) fn stored(&mut self, name: &'a str) -> Result<TensorProto, String> {
        let failed = || format!("`{name}` is no constant");
        if !self.values.contains_key(name)
            && let Some(&tensor) = self.constants.get(name)
        {
            let value = self.constant(tensor, name).map_err(|error| error.to_string())?;
            self.values.insert(name, value);
        }
        let raw = self.raw_constant(name);
        let kind = raw.and_then(|tensor| tensor.data_type);
        Ok(match self.values.get(name) {
            Some(Value::Tensor(tensor)) => raw_floats(tensor.shape(), tensor.data()),
            Some(Value::Integers { dims, values }) => {
                let known: Option<Vec<i64>> = values
                    .iter()
                    .map(|value| match value {
                        Dim::Known(value) => Some(*value),
                        Dim::Batch(_) => None,
                    })
                    .collect();
                let bool = kind == Some(super::super::constant::BOOL) || self.is_bool(name);
                raw_integers(dims, &known.ok_or_else(failed)?, bool)
            }
            _ => {
                // Large integer tables are stored without a change.
                let mut tensor = raw.ok_or_else(failed)?.clone();
                if tensor.data_location == Some(1) {
                    let bytes = self.external.bytes(&tensor)?.ok_or_else(failed)?.clone();
                    tensor.raw_data = Some(bytes);
                    tensor.external_data.clear();
                    tensor.data_location = None;
                }
                tensor
            }
        })
    }

    /// Returns whether a folded value was boolean.
    fn is_bool(&self, name: &str) -> bool {
        let Some(&index) = self.producers.get(name) else {
            return false;
        };
        let node = &self.file.node[index];
        match node.op_type.as_deref() {
            Some("Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Not" | "And" | "Or") => true,
            Some("Cast") => {
                let to = node.attribute.iter().find(|own| own.name.as_deref() == Some("to"));
                to.and_then(|to| to.i) == Some(i64::from(super::super::constant::BOOL))
            }
            _ => false,
        }
    }
}

/// A step's graph under construction.
#[derive(Default)]
pub(super) struct Region {
    pub(super) graph: GraphProto,
    /// The names inside of the step, by the names of the file's values.
    pub(super) names: HashMap<String, String>,
    values: usize,
}

impl Region {
    fn fresh(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values - 1)
    }

    /// Adds a constant under the next name.
    pub(super) fn constant(&mut self, name: &str, mut tensor: TensorProto) {
        let own = format!("c{}", self.graph.initializer.len());
        tensor.name = Some(own.clone());
        self.graph.initializer.push(tensor);
        self.names.insert(name.to_owned(), own);
    }

    /// Adds a node of the file, and replaces its names by the step's own ones. Floats become single precision.
    pub(super) fn node(&mut self, node: &NodeProto) {
        let inputs: Vec<String> = node
            .input
            .iter()
            .map(|name| self.names.get(name).cloned().unwrap_or_default())
            .collect();
        let outputs: Vec<String> = node
            .output
            .iter()
            .map(|name| {
                if name.is_empty() {
                    return String::new();
                }
                let own = self.fresh();
                self.names.insert(name.clone(), own.clone());
                own
            })
            .collect();
        let cast = node.op_type.as_deref() == Some("Cast");
        let attribute = |attribute: &AttributeProto| {
            let mut own = attribute.clone();
            if cast
                && own.name.as_deref() == Some("to")
                && own.i.is_some_and(|to| FLOATS.iter().any(|&kind| to == i64::from(kind)))
            {
                own.i = Some(i64::from(TensorProto::FLOAT));
            }
            own
        };
        self.graph.node.push(NodeProto {
            input: inputs,
            output: outputs,
            name: None,
            op_type: node.op_type.clone(),
            attribute: node.attribute.iter().map(attribute).collect(),
            domain: None,
        });
    }

    /// Rearranges `name`, and returns the new name; returns `name` itself if nothing has to be done.
    fn arranged(&mut self, name: &str, tail: &Tail) -> String {
        let mut current = name.to_owned();
        for (perm, dims) in [
            (None, tail.split.as_ref()),
            (tail.perm.as_ref(), None),
            (None, tail.dims.as_ref()),
        ] {
            let (op, mut inputs, attributes) = match (perm, dims) {
                (Some(perm), _) => ("Transpose", vec![current.clone()], vec![ints("perm", perm)]),
                (_, Some(dims)) => {
                    let sizes: Vec<i64> = [0].into_iter().chain(dims.iter().map(|&dim| dim as i64)).collect();
                    let label = format!("\0{}", self.graph.initializer.len());
                    self.constant(&label, raw_integers(&[sizes.len()], &sizes, false));
                    ("Reshape", vec![current.clone(), self.names[&label].clone()], vec![])
                }
                _ => continue,
            };
            let output = self.fresh();
            self.graph.node.push(NodeProto {
                input: std::mem::take(&mut inputs),
                output: vec![output.clone()],
                name: None,
                op_type: Some(op.to_owned()),
                attribute: attributes,
                domain: None,
            });
            current = output;
        }
        current
    }

    /// Gives a value inside another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for node in &mut self.graph.node {
            for name in node.input.iter_mut().chain(&mut node.output) {
                if name == from {
                    to.clone_into(name);
                }
            }
        }
    }
}
