//! Access of operator conversions to a node's inputs, and addition of nodes to the graph.

use super::{
    Import, Takes,
    attributes::Source,
    constant, order,
    value::{self, Refusal, Value},
};
use crate::{
    OnnxError, Shape,
    graph::{Node, Op, ValueId},
    infer,
    proto::TensorProto,
    validate,
};

impl<'a> Import<'a> {
    /// Returns the value of input `index`, which is required.
    pub(super) fn value(&mut self, source: Source<'a>, index: usize) -> value::Converted {
        match self.optional(source, index)? {
            Some(value) => Ok(value),
            None => value::unsupported(format!("input {index} is missing")),
        }
    }

    /// Returns the value of input `index`, if the node has it.
    pub(super) fn optional(&mut self, source: Source<'a>, index: usize) -> Result<Option<Value>, Refusal> {
        let Some(name) = source.input(index) else {
            return Ok(None);
        };
        if let Some(value) = self.values.get(name) {
            return match value.clone() {
                Value::Unknown => Err(Refusal::Tainted),
                Value::Foreign(foreign) => match self.takes {
                    Takes::Nothing => Err(Refusal::Tainted),
                    Takes::Values | Takes::ChannelsLast => self
                        .materialised(name, &foreign)
                        .map_or(Err(Refusal::Tainted), |value| Ok(Some(value))),
                },
                value => Ok(Some(value)),
            };
        }
        match self.constants.get(name) {
            Some(tensor) => {
                let value = self.constant(tensor, name)?;
                self.values.insert(name, value.clone());
                Ok(Some(value))
            }
            None => Err(Refusal::Tainted),
        }
    }

    /// Returns the value of a tensor of the file.
    pub(super) fn constant(&mut self, tensor: &TensorProto, name: &str) -> Result<Value, OnnxError> {
        let value = constant::value(tensor, name, self.origin, self.external)?;
        match &value {
            Value::Tensor(read) => {
                self.budget.read(read.data().len());
                self.half.tensor(tensor.data_type.unwrap_or(0));
            }
            Value::Integers { values, .. } => self.budget.read(values.len()),
            Value::Bytes(bytes) => self.budget.read(bytes.values.len()),
            _ => {}
        }
        Ok(value)
    }

    /// Returns input `index`, which must be computed from the image.
    pub(super) fn data(&mut self, source: Source<'a>, index: usize) -> Result<ValueId, Refusal> {
        match self.value(source, index)? {
            Value::Data(value) => Ok(value),
            Value::View(view) => {
                // A separate step converts the value to the file's layout.
                let plain = source.input(index).and_then(|name| self.plain(name, &view));
                plain.map_or_else(
                    || {
                        value::unsupported(format!(
                            "input {index}: expected channels first, got {}",
                            view.describe()
                        ))
                    },
                    Ok,
                )
            }
            other => value::unsupported(format!(
                "input {index}: expected a computed value, got {}",
                other.describe()
            )),
        }
    }

    /// Returns input `index`, which must be a float constant.
    pub(super) fn tensor(&mut self, source: Source<'a>, index: usize) -> Result<crate::Tensor, Refusal> {
        match self.value(source, index)? {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Weight(tensor) => Ok(crate::ConvWeight::from(tensor).tensor()),
            other => value::unsupported(format!(
                "input {index}: expected a float constant, got {}",
                other.describe()
            )),
        }
    }

    /// Returns input `index` as known integers, if the node has it.
    pub(super) fn integers(&mut self, source: Source<'a>, index: usize) -> Result<Option<Vec<i64>>, Refusal> {
        match self.optional(source, index)? {
            None => Ok(None),
            Some(Value::Integers { values, .. }) => {
                let known = values.iter().map(|dim| match dim {
                    value::Dim::Known(value) => Some(*value),
                    value::Dim::Batch(_) => None,
                });
                known.collect::<Option<Vec<_>>>().map_or_else(
                    || value::unsupported(format!("input {index} depends on the batch")),
                    |known| Ok(Some(known)),
                )
            }
            Some(other) => value::unsupported(format!(
                "input {index}: expected integer constants, got {}",
                other.describe()
            )),
        }
    }

    pub(super) fn shape(&self, value: ValueId) -> Shape {
        self.shapes[value.0]
    }

    /// Adds a node to the graph.
    pub(super) fn push(&mut self, name: &str, op: Op, inputs: Vec<ValueId>) -> value::Converted {
        validate::op(&op, inputs.len()).map_err(Refusal::Invalid)?;
        let shapes: Vec<Shape> = inputs.iter().map(|input| self.shapes[input.0]).collect();
        let shape = infer::infer(&op, &shapes).map_err(Refusal::Unsupported)?;
        let node = Node {
            name: name.to_owned(),
            op,
            inputs,
        };
        self.grids.push(node.grid(&self.grids));
        self.nodes.push(node);
        self.shapes.push(shape);
        Ok(Value::Data(ValueId(self.nodes.len())))
    }

    /// Adds an additional node for the same node of the file.
    pub(super) fn push_helper(
        &mut self,
        source: Source<'a>,
        suffix: &str,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> value::Converted {
        let name = order::free(&mut self.taken, format!("{}.{suffix}", source.name));
        self.push(&name, op, inputs)
    }
}
