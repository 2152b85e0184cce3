//! Shapes of values inside opaque steps, by operator (ONNX shape inference with a symbolic batch).

mod layout;
mod matrices;
mod windows;

use super::{
    super::{
        attributes::Source,
        value::{Dim, Value},
    },
    Foreign, Kind,
};
use crate::proto::TensorProto;

/// Known properties of a value: its sizes, its type and, for small constants, its elements.
#[derive(Clone, Debug)]
pub(super) struct Info {
    pub(super) dims: Vec<Dim>,
    pub(super) kind: Kind,
    pub(super) known: Option<Known>,
}

/// Elements with values known at import.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Integers(Vec<Dim>),
    Floats(Vec<f32>),
}

impl Info {
    fn new(dims: Vec<Dim>, kind: Kind) -> Self {
        Self {
            dims,
            kind,
            known: None,
        }
    }

    /// Returns the value of a name of the file.
    pub(super) fn value(self) -> Value {
        Value::Foreign(Foreign {
            dims: self.dims,
            kind: self.kind,
        })
    }

    /// Returns the elements as sizes.
    fn sizes(&self) -> Result<&[Dim], String> {
        match &self.known {
            Some(Known::Integers(values)) => Ok(values),
            _ => Err("its shape depends on values that are not known at import".to_owned()),
        }
    }

    /// Returns the elements as integers.
    fn integers(&self) -> Result<Vec<i64>, String> {
        self.sizes()?.iter().map(|&dim| known(dim)).collect()
    }
}

/// Returns a size that must not depend on the batch.
fn known(dim: Dim) -> Result<i64, String> {
    match dim {
        Dim::Known(size) => Ok(size),
        Dim::Batch(_) => Err("it depends on the batch".to_owned()),
    }
}

/// Returns whether an operator may be inside an opaque step. These are operators of the default domain whose shapes are
/// inferred here; tract can run all of them.
pub(super) fn is_known(operator: &str) -> bool {
    of_one(operator)
        || of_several(operator)
        || layout::is_known(operator)
        || matrices::is_known(operator)
        || windows::is_known(operator)
}

/// Returns whether the operator's first output has the shape of its first input.
fn of_one(operator: &str) -> bool {
    matches!(
        operator,
        "Abs"
            | "Acos"
            | "Acosh"
            | "Asin"
            | "Asinh"
            | "Atan"
            | "Atanh"
            | "BatchNormalization"
            | "Cast"
            | "CastLike"
            | "Ceil"
            | "Celu"
            | "Clip"
            | "Cos"
            | "Cosh"
            | "CumSum"
            | "Dropout"
            | "Elu"
            | "Erf"
            | "Exp"
            | "Floor"
            | "Gelu"
            | "GroupNormalization"
            | "HardSigmoid"
            | "HardSwish"
            | "Hardmax"
            | "Identity"
            | "InstanceNormalization"
            | "IsInf"
            | "IsNaN"
            | "LRN"
            | "LayerNormalization"
            | "LeakyRelu"
            | "Log"
            | "LogSoftmax"
            | "LpNormalization"
            | "MeanVarianceNormalization"
            | "Mish"
            | "Neg"
            | "Not"
            | "PRelu"
            | "RMSNormalization"
            | "Reciprocal"
            | "Relu"
            | "Round"
            | "ScatterElements"
            | "ScatterND"
            | "Selu"
            | "Shrink"
            | "Sigmoid"
            | "Sign"
            | "Sin"
            | "Sinh"
            | "Softmax"
            | "Softplus"
            | "Softsign"
            | "Sqrt"
            | "Swish"
            | "Tan"
            | "Tanh"
            | "ThresholdedRelu"
            | "Trilu"
    )
}

/// Returns whether the operator broadcasts several values.
fn of_several(operator: &str) -> bool {
    let arithmetic = [
        "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "And", "Or", "Xor",
    ];
    arithmetic.contains(&operator) || compares(operator)
}

/// Returns whether such an operator returns truth values.
fn compares(operator: &str) -> bool {
    matches!(
        operator,
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual"
    )
}

/// Infers the shapes and types of a node's outputs.
pub(super) fn infer(source: Source<'_>, inputs: &[Option<Info>]) -> Result<Vec<Info>, String> {
    let node = Node { source, inputs };
    let operator = source.operator();
    if of_one(operator) {
        return node.of_one();
    }
    if of_several(operator) {
        let mut dims = Vec::new();
        for input in inputs.iter().flatten() {
            dims = broadcast(&dims, &input.dims)?;
        }
        // The first input of Where is the condition, and the second input of Pow may be an integer, so neither
        // determines the type.
        let typed = usize::from(operator == "Where");
        let kind = if compares(operator) {
            Kind::Bool
        } else {
            node.input(typed)?.kind
        };
        return Ok(vec![Info::new(dims, kind)]);
    }
    if layout::is_known(operator) {
        return layout::infer(&node);
    }
    if matrices::is_known(operator) {
        return matrices::infer(&node).map(|info| vec![info]);
    }
    windows::infer(&node).map(|info| vec![info])
}

/// A node whose outputs are inferred.
struct Node<'i> {
    source: Source<'i>,
    inputs: &'i [Option<Info>],
}

impl Node<'_> {
    fn optional(&self, index: usize) -> Option<&Info> {
        self.inputs.get(index)?.as_ref()
    }

    fn input(&self, index: usize) -> Result<&Info, String> {
        self.optional(index).ok_or_else(|| format!("input {index} is missing"))
    }

    fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        self.source
            .int(name, default)
            .map_err(|_| format!("attribute `{name}` is not an integer"))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name, default.into())? != 0)
    }

    fn text(&self, name: &str, default: &'static str) -> Result<String, String> {
        let text = self
            .source
            .text(name, default)
            .map_err(|_| format!("attribute `{name}` is not a string"))?;
        Ok(text.to_owned())
    }

    /// Returns integers from the attribute `name` or from input `index`, if the node has one of them.
    fn ints(&self, name: &str, index: usize) -> Result<Option<Vec<i64>>, String> {
        if let Some(values) = self.source.ints(name) {
            return Ok(Some(values.to_vec()));
        }
        self.optional(index).map(Info::integers).transpose()
    }

    fn of_one(&self) -> Result<Vec<Info>, String> {
        let input = self.input(0)?;
        let training = self.flag("training_mode", false)?
            || self.source.operator() == "Dropout"
                && self
                    .optional(2)
                    .is_some_and(|flag| !matches!(flag.integers().as_deref(), Ok([0])));
        if training {
            return Err("expected inference mode\n  hint: call model.eval() before exporting".to_owned());
        }
        let kind = match self.source.operator() {
            "Cast" => match i32::try_from(self.int("to", 0)?).unwrap_or(0) {
                kind if super::super::constant::FLOATS.contains(&kind) => Kind::Float,
                TensorProto::INT64 | TensorProto::INT32 => Kind::Integer,
                super::super::constant::BOOL => Kind::Bool,
                other => return Err(format!("to type {other}")),
            },
            "CastLike" => self.input(1)?.kind,
            "IsInf" | "IsNaN" | "Not" => Kind::Bool,
            _ => input.kind,
        };
        let mixes = match self.source.operator() {
            "Softmax" | "LogSoftmax" | "Hardmax" | "LpNormalization" | "LayerNormalization" => {
                Some(self.int("axis", -1)?)
            }
            "CumSum" => self.input(1)?.integers()?.first().copied(),
            _ => None,
        };
        if let Some(axis) = mixes {
            let axis = front(axis, input.dims.len())?;
            within_images(&input.dims[axis..=axis])?;
        }
        let dims = if self.source.operator() == "PRelu" {
            broadcast(&input.dims, &self.input(1)?.dims)?
        } else {
            input.dims.clone()
        };
        Ok(vec![Info::new(dims, kind)])
    }
}

/// Returns an axis, counted from the front of `rank`.
fn front(axis: i64, rank: usize) -> Result<usize, String> {
    let front = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    usize::try_from(front)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| format!("axis {axis} of {rank} axes"))
}

/// Refuses an operation across the images of a batch.
fn within_images(dims: &[Dim]) -> Result<(), String> {
    if dims.iter().any(|dim| matches!(dim, Dim::Batch(_))) {
        return Err("it mixes the images of a batch".to_owned());
    }
    Ok(())
}

/// Returns the sizes to which two values broadcast.
fn broadcast(left: &[Dim], right: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = left.len().max(right.len());
    let at = |dims: &[Dim], axis: usize| {
        (axis + dims.len())
            .checked_sub(rank)
            .map_or(Dim::Known(1), |axis| dims[axis])
    };
    let join = |axis: usize| match (at(left, axis), at(right, axis)) {
        (left, right) if left == right => Ok(left),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => Ok(other),
        (left, right) => Err(format!("sizes {left:?} and {right:?} do not go together")),
    };
    (0..rank).map(join).collect()
}

/// Returns the product of sizes: a number, or a multiple of the batch.
fn product(dims: &[Dim]) -> Result<Dim, String> {
    dims.iter().try_fold(Dim::Known(1), |product, &dim| {
        let result = match (product, dim) {
            (Dim::Known(left), Dim::Known(right)) => left.checked_mul(right).map(Dim::Known),
            (Dim::Batch(times), Dim::Known(factor)) | (Dim::Known(factor), Dim::Batch(times)) => {
                times.checked_mul(factor).map(Dim::Batch)
            }
            (Dim::Batch(_), Dim::Batch(_)) => None,
        };
        result.ok_or_else(|| "a size that depends on the square of the batch, or is too large".to_owned())
    })
}

/// Returns `whole / part`, if that is a size.
fn quotient(whole: Dim, part: Dim) -> Result<Dim, String> {
    let divided = |whole: i64, part: i64| (part > 0 && whole % part == 0).then(|| whole / part);
    let result = match (whole, part) {
        (Dim::Known(whole), Dim::Known(part)) | (Dim::Batch(whole), Dim::Batch(part)) => {
            divided(whole, part).map(Dim::Known)
        }
        (Dim::Batch(whole), Dim::Known(part)) => divided(whole, part).map(Dim::Batch),
        (Dim::Known(_), Dim::Batch(_)) => None,
    };
    result.ok_or_else(|| format!("{whole:?} elements in parts of {part:?}"))
}
