//! Small constants of a graph, and the arithmetic on them that exporters leave in a file.

use std::collections::HashMap;

use super::{
    External, constant, producers,
    value::{Dim, Value},
    walk::attribute,
};
use crate::proto::{GraphProto, NodeProto, TensorProto};

/// Maximum number of elements of such a constant.
const MAX_ELEMENTS: i64 = 64;
/// Maximum length of a chain of nodes that computes a constant.
const MAX_DEPTH: usize = 12;

/// Dimensions and values.
type Array<T> = (Vec<usize>, Vec<T>);

/// The constants of a graph: initialisers, Constant nodes, and values computed from them.
pub(super) struct Constants<'a> {
    graph: &'a GraphProto,
    external: &'a External,
    initialisers: HashMap<&'a str, &'a TensorProto>,
    place: HashMap<&'a str, usize>,
}

impl<'a> Constants<'a> {
    pub(super) fn new(graph: &'a GraphProto, external: &'a External) -> Self {
        let named = |tensor: &'a TensorProto| Some((tensor.name.as_deref()?, tensor));
        Self {
            graph,
            external,
            initialisers: graph.initializer.iter().filter_map(named).collect(),
            place: producers(graph),
        }
    }

    /// Returns a float constant.
    pub(super) fn floats(&self, name: &str) -> Option<Array<f64>> {
        self.evaluate(name, MAX_DEPTH)
    }

    /// Returns an integer constant.
    pub(super) fn integers(&self, name: &str) -> Option<Array<i64>> {
        match self.stored(name, MAX_DEPTH)? {
            Value::Integers { dims, values } => {
                let known = values.iter().map(|value| match value {
                    Dim::Known(value) => Some(*value),
                    Dim::Batch(_) => None,
                });
                Some((dims, known.collect::<Option<_>>()?))
            }
            _ => None,
        }
    }

    /// Returns an initialiser or a Constant, possibly passed through other nodes.
    fn stored(&self, name: &str, depth: usize) -> Option<Value> {
        if let Some(tensor) = self.initialisers.get(name) {
            return self.read(tensor, name);
        }
        let node = &self.graph.node[*self.place.get(name)?];
        match (node.op_type.as_deref()?, depth) {
            ("Constant", _) => self.literal(node),
            ("Identity", 1..) => self.stored(node.input.first()?, depth - 1),
            _ => None,
        }
    }

    fn evaluate(&self, name: &str, depth: usize) -> Option<Array<f64>> {
        match self.stored(name, depth) {
            Some(Value::Tensor(tensor)) => {
                let values = tensor.data().iter().map(|&value| f64::from(value));
                return Some((tensor.shape().to_vec(), values.collect()));
            }
            Some(_) => return None,
            None => {}
        }
        let depth = depth.checked_sub(1)?;
        let node = &self.graph.node[*self.place.get(name)?];
        let input = |index: usize| self.evaluate(node.input.get(index)?, depth);
        let unary = |change: fn(f64) -> f64| {
            let (dims, values) = input(0)?;
            Some((dims, values.into_iter().map(change).collect()))
        };
        match node.op_type.as_deref()? {
            "Identity" | "Cast" => input(0).or_else(|| {
                let (dims, values) = self.integers(node.input.first()?)?;
                Some((dims, values.into_iter().map(|value| value as f64).collect()))
            }),
            "Sqrt" => unary(f64::sqrt),
            "Reciprocal" => unary(f64::recip),
            "Neg" => unary(|value| -value),
            "Add" => broadcast(input(0)?, input(1)?, |a, b| a + b),
            "Sub" => broadcast(input(0)?, input(1)?, |a, b| a - b),
            "Mul" => broadcast(input(0)?, input(1)?, |a, b| a * b),
            "Div" => broadcast(input(0)?, input(1)?, |a, b| a / b),
            "Pow" => broadcast(input(0)?, input(1)?, f64::powf),
            "Max" if node.input.len() == 2 => broadcast(input(0)?, input(1)?, f64::max),
            "Min" if node.input.len() == 2 => broadcast(input(0)?, input(1)?, f64::min),
            "Unsqueeze" => {
                let (mut dims, values) = input(0)?;
                let axes = match attribute(node, "axes") {
                    Some(attribute) => attribute.ints.clone(),
                    None => self.integers(node.input.get(1)?)?.1,
                };
                let rank = (dims.len() + axes.len()) as i64;
                let mut axes: Vec<i64> = axes
                    .iter()
                    .map(|&axis| if axis < 0 { axis + rank } else { axis })
                    .collect();
                axes.sort_unstable();
                for axis in axes {
                    let axis = usize::try_from(axis).ok().filter(|&axis| axis <= dims.len())?;
                    dims.insert(axis, 1);
                }
                Some((dims, values))
            }
            "Reshape" => {
                let ((_, values), (_, wanted)) = (input(0)?, self.integers(node.input.get(1)?)?);
                let known: i64 = wanted.iter().filter(|&&dim| dim > 0).product();
                let open = (values.len() as i64).checked_div(known)?;
                let dims = wanted
                    .iter()
                    .map(|&dim| usize::try_from(if dim == -1 { open } else { dim }).ok());
                let dims = dims.collect::<Option<Vec<_>>>()?;
                (dims.iter().product::<usize>() == values.len()).then_some((dims, values))
            }
            _ => None,
        }
    }

    fn read(&self, tensor: &TensorProto, name: &str) -> Option<Value> {
        let small = tensor
            .dims
            .iter()
            .try_fold(1_i64, |product, &dim| product.checked_mul(dim))?
            <= MAX_ELEMENTS;
        small
            .then(|| constant::value(tensor, name, "", self.external).ok())
            .flatten()
    }

    /// Returns the value of a Constant node.
    fn literal(&self, node: &NodeProto) -> Option<Value> {
        let integers = |values: Vec<i64>, dims: Vec<usize>| Value::Integers {
            dims,
            values: values.into_iter().map(Dim::Known).collect(),
        };
        let floats = |values: Vec<f32>, dims: Vec<usize>| Value::Tensor(crate::Tensor::new(dims, values));
        let attribute = node.attribute.first()?;
        match attribute.name.as_deref()? {
            "value" => self.read(attribute.t.as_ref()?, ""),
            "value_float" => Some(floats(vec![attribute.f?], vec![])),
            "value_floats" => Some(floats(attribute.floats.clone(), vec![attribute.floats.len()])),
            "value_int" => Some(integers(vec![attribute.i?], vec![])),
            "value_ints" => Some(integers(attribute.ints.clone(), vec![attribute.ints.len()])),
            _ => None,
        }
    }
}

/// Applies `operation` element by element. The shapes must be equal, or one operand has a single value.
fn broadcast(a: Array<f64>, b: Array<f64>, operation: fn(f64, f64) -> f64) -> Option<Array<f64>> {
    let dims = if a.1.len() >= b.1.len() && a.0.len() >= b.0.len() {
        &a.0
    } else {
        &b.0
    };
    let length = a.1.len().max(b.1.len());
    let fits = |part: &Array<f64>| {
        part.1.len() == 1 || part.1.len() == length && part.0.iter().filter(|&&dim| dim != 1).count() <= 1
    };
    if dims.iter().product::<usize>() != length || !fits(&a) || !fits(&b) {
        return None;
    }
    let at = |part: &Array<f64>, index: usize| part.1[index % part.1.len()];
    Some((
        dims.clone(),
        (0..length)
            .map(|index| operation(at(&a, index), at(&b, index)))
            .collect(),
    ))
}
