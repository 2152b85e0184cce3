//! Activations, and arithmetic with two values or with constants per channel.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Dim, Refusal, Value, unsupported},
    },
    convolution::scalar,
};
use crate::{
    Shape, Tensor,
    graph::{Activation, Op, ValueId},
};

pub(super) fn relu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Relu)
}

pub(super) fn sigmoid<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Sigmoid)
}

pub(super) fn hard_swish<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::HardSwish)
}

pub(super) fn leaky_relu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha"])?;
    let alpha = source.float("alpha", 0.01)?;
    activation(import, source, Activation::LeakyRelu { alpha })
}

pub(super) fn hard_sigmoid<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha", "beta"])?;
    let (alpha, beta) = (source.float("alpha", 0.2)?, source.float("beta", 0.5)?);
    activation(import, source, Activation::HardSigmoid { alpha, beta })
}

pub(super) fn clip<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["min", "max"])?;
    let input = import.data(source, 0)?;
    let mut bound = |index: usize, name: &str, open: f32| match source.input(index) {
        Some(_) => match import.value(source, index)? {
            Value::Tensor(tensor) => scalar(&tensor),
            other => unsupported(format!("{name}: expected a constant, got {}", other.describe())),
        },
        None => source.float(name, open),
    };
    let (min, max) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    if min == f32::NEG_INFINITY && max == f32::INFINITY {
        return Ok(Value::Data(input));
    }
    import.push(source.name, Op::Activation(Activation::Clip { min, max }), vec![input])
}

fn activation<'a>(import: &mut Import<'a>, source: Source<'a>, activation: Activation) -> Converted {
    let input = import.data(source, 0)?;
    import.push(source.name, Op::Activation(activation), vec![input])
}

pub(super) fn prelu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.data(source, 0)?;
    let slope = per_channel(&import.tensor(source, 1)?, import.shape(input))?;
    import.push(source.name, Op::PRelu { slope }, vec![input])
}

pub(super) fn add<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    arithmetic(import, source, Arithmetic::Add)
}

pub(super) fn sub<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    arithmetic(import, source, Arithmetic::Sub)
}

pub(super) fn mul<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    arithmetic(import, source, Arithmetic::Mul)
}

pub(super) fn div<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    arithmetic(import, source, Arithmetic::Div)
}

#[derive(Clone, Copy, PartialEq)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

fn arithmetic<'a>(import: &mut Import<'a>, source: Source<'a>, operation: Arithmetic) -> Converted {
    match (import.value(source, 0)?, import.value(source, 1)?) {
        (Value::Data(left), Value::Data(right)) => match operation {
            Arithmetic::Add => import.push(source.name, Op::Add, vec![left, right]),
            Arithmetic::Mul => import.push(source.name, Op::Mul, vec![left, right]),
            Arithmetic::Sub | Arithmetic::Div => unsupported("of two computed values"),
        },
        (Value::Data(input), Value::Tensor(constant)) => {
            let constant = per_channel(&constant, import.shape(input))?;
            match operation {
                Arithmetic::Add => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |_| 1.0,
                    |c| constant.data()[c],
                ),
                Arithmetic::Sub => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |_| 1.0,
                    |c| -constant.data()[c],
                ),
                Arithmetic::Mul => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |c| constant.data()[c],
                    |_| 0.0,
                ),
                Arithmetic::Div => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |c| 1.0 / constant.data()[c],
                    |_| 0.0,
                ),
            }
        }
        (Value::Tensor(constant), Value::Data(input)) => {
            let constant = per_channel(&constant, import.shape(input))?;
            match operation {
                Arithmetic::Add => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |_| 1.0,
                    |c| constant.data()[c],
                ),
                Arithmetic::Sub => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |_| -1.0,
                    |c| constant.data()[c],
                ),
                Arithmetic::Mul => affine(
                    import,
                    source,
                    input,
                    constant.shape()[0],
                    |c| constant.data()[c],
                    |_| 0.0,
                ),
                Arithmetic::Div => unsupported("of a constant by a computed value"),
            }
        }
        (
            Value::Integers { dims, values: left },
            Value::Integers {
                dims: other,
                values: right,
            },
        ) => integers(
            operation,
            &left,
            &right,
            if left.len() >= right.len() { dims } else { other },
        ),
        (left, right) => unsupported(format!("of {} and {}", left.describe(), right.describe())),
    }
}

fn affine<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    input: ValueId,
    channels: usize,
    scale: impl Fn(usize) -> f32,
    bias: impl Fn(usize) -> f32,
) -> Converted {
    let vector = |value: &dyn Fn(usize) -> f32| Tensor::new([channels], (0..channels).map(value).collect::<Vec<_>>());
    let op = Op::ChannelAffine {
        scale: vector(&scale),
        bias: vector(&bias),
    };
    import.push(source.name, op, vec![input])
}

/// Shape arithmetic of exporters.
fn integers(operation: Arithmetic, left: &[Dim], right: &[Dim], dims: Vec<usize>) -> Converted {
    let length = left.len().max(right.len());
    if [left.len(), right.len()].iter().any(|&got| got != length && got != 1) {
        return unsupported(format!("of {} and {} integers", left.len(), right.len()));
    }
    let at = |values: &[Dim], index: usize| values[if values.len() == 1 { 0 } else { index }];
    let values = (0..length).map(|index| match (operation, at(left, index), at(right, index)) {
        (Arithmetic::Mul, Dim::Batch, Dim::Known(1)) | (Arithmetic::Mul, Dim::Known(1), Dim::Batch) => Some(Dim::Batch),
        (operation, Dim::Known(left), Dim::Known(right)) => match operation {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Sub => left.checked_sub(right),
            Arithmetic::Mul => left.checked_mul(right),
            Arithmetic::Div => left.checked_div(right),
        }
        .map(Dim::Known),
        _ => None,
    });
    match values.collect::<Option<Vec<_>>>() {
        Some(values) => Ok(Value::Integers { dims, values }),
        None => unsupported("of integers that depend on the batch"),
    }
}

/// A constant that broadcasts over everything but the channels, as `[C]`.
fn per_channel(constant: &Tensor, shape: Shape) -> Result<Tensor, Refusal> {
    let channels = shape.channels();
    let fail = || {
        unsupported(format!(
            "a constant {:?} beside {shape}: expected one value, or one per channel",
            constant.shape()
        ))
    };
    if let &[value] = constant.data() {
        return Ok(Tensor::new([channels], vec![value; channels]));
    }
    let behind = match shape {
        Shape::Map(_) => 2,
        Shape::Vector(_) => 0,
    };
    let dims = constant.shape();
    // Counted from the end: the axes behind the channels, the channels, and axes before them.
    let Some(place) = dims.len().checked_sub(behind + 1) else {
        return fail();
    };
    let ones = dims.iter().enumerate().all(|(axis, &dim)| dim == 1 || axis == place);
    if dims.len() > behind + 2 || !ones || dims[place] != channels {
        return fail();
    }
    Ok(Tensor::new([channels], constant.shared()))
}
