//! Activations without weights, `PRelu`, and bounds that exporters write as Min and Max.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Value, unsupported},
        view::View,
    },
    arithmetic,
    convolution::scalar,
};
use crate::graph::{Activation, Op};

pub(super) fn relu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Relu)
}

pub(super) fn sigmoid<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Sigmoid)
}

pub(super) fn hard_swish<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::HardSwish)
}

/// Converts `x · sigmoid(alpha · x)` (Swish, opset 24).
pub(super) fn swish<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha"])?;
    let alpha = source.float("alpha", 1.0)?;
    if alpha != 1.0 {
        return unsupported(format!("alpha {alpha}: expected 1"));
    }
    activation(import, source, Activation::Silu)
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

pub(super) fn tanh<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Tanh)
}

pub(super) fn mish<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    activation(import, source, Activation::Mish)
}

pub(super) fn elu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha"])?;
    let alpha = source.float("alpha", 1.0)?;
    activation(import, source, Activation::Elu { alpha })
}

/// Converts Gelu (opset 20).
pub(super) fn gelu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["approximate"])?;
    let kind = match source.text("approximate", "none")? {
        "none" => Activation::Gelu,
        "tanh" => Activation::GeluTanh,
        other => return unsupported(format!("approximate `{other}`: expected none or tanh")),
    };
    activation(import, source, kind)
}

/// Converts Clip. The bounds are attributes before opset 11, and inputs since.
pub(super) fn clip<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["min", "max"])?;
    if let Some(bounded) = arithmetic::clipped_integers(import, source)? {
        return Ok(bounded);
    }
    let constant = match import.value(source, 0)? {
        Value::Tensor(tensor) => Some(tensor),
        _ => None,
    };
    let mut bound = |index: usize, name: &str, open: f32| match source.input(index) {
        Some(_) => match import.value(source, index)? {
            Value::Tensor(tensor) => scalar(&tensor),
            other => unsupported(format!("{name}: expected a constant, got {}", other.describe())),
        },
        None => source.float(name, open),
    };
    let (min, max) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    if let Some(constant) = constant {
        // NaN bounds leave the value unchanged. `clamp` would panic if the bounds were crossed.
        return import.mapped(&constant, |value| value.max(min).min(max));
    }
    let input = import.view(source, 0)?;
    if min == f32::NEG_INFINITY && max == f32::INFINITY {
        return Ok(import.settled(source, input));
    }
    import.push_on(source, Op::Activation(Activation::Clip { min, max }), &input)
}

/// Adds `min(x, bound)` or `max(x, bound)`. After a Relu or another Clip, both become one Clip.
pub(super) fn bounded<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    input: &View,
    bound: f32,
    upper: bool,
) -> Converted {
    let producer = input.value.producer().map(|index| &import.nodes[index]);
    let before = match producer.map(|node| (&node.op, &node.inputs[..])) {
        Some((Op::Activation(Activation::Relu), &[value])) => Some((value, 0.0, f32::INFINITY)),
        Some((&Op::Activation(Activation::Clip { min, max }), &[value])) => Some((value, min, max)),
        _ => None,
    };
    let (value, min, max) = before.unwrap_or((input.value, f32::NEG_INFINITY, f32::INFINITY));
    let (min, max) = if upper {
        (min, max.min(bound))
    } else {
        (min.max(bound), max)
    };
    if min > max {
        return unsupported(format!("the bounds {min} and {max} leave nothing"));
    }
    let op = if (min, max) == (0.0, f32::INFINITY) {
        Activation::Relu
    } else {
        Activation::Clip { min, max }
    };
    let clipped = import.push(source.name, Op::Activation(op), vec![value])?;
    import.arranged(source, &clipped, input)
}

fn activation<'a>(import: &mut Import<'a>, source: Source<'a>, activation: Activation) -> Converted {
    let input = import.view(source, 0)?;
    import.push_on(source, Op::Activation(activation), &input)
}

pub(super) fn prelu<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.view(source, 0)?;
    let slope = input.per_channel(&import.tensor(source, 1)?, import.shape(input.value))?;
    import.push_on(source, Op::PRelu { slope }, &input)
}
