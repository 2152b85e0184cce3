//! Arithmetic on two computed values, on a computed value and constants per channel, and on constants and shapes known
//! at import; comparisons of the latter.

use super::{
    super::{
        Import,
        attributes::Source,
        folding,
        value::{Converted, Dim, Refusal, Value, unsupported},
        view::View,
    },
    activations::bounded,
};
use crate::{Shape, Tensor, graph::Op};

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    Pow,
    Mod,
}

impl Arithmetic {
    fn floats(self, left: f32, right: f32) -> f32 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Min => left.min(right),
            Self::Max => left.max(right),
            Self::Pow => left.powf(right),
            Self::Mod => left % right,
        }
    }

    fn integers(self, left: Dim, right: Dim) -> Option<Dim> {
        match (self, left, right) {
            (Self::Mul, Dim::Batch(times), Dim::Known(factor)) | (Self::Mul, Dim::Known(factor), Dim::Batch(times)) => {
                times.checked_mul(factor).filter(|&times| times > 0).map(Dim::Batch)
            }
            (Self::Div, Dim::Batch(times), Dim::Known(divisor)) if divisor > 0 && times % divisor == 0 => {
                Some(Dim::Batch(times / divisor))
            }
            (Self::Add | Self::Sub, Dim::Batch(times), Dim::Known(0))
            | (Self::Add, Dim::Known(0), Dim::Batch(times)) => Some(Dim::Batch(times)),
            (operation, Dim::Known(left), Dim::Known(right)) => match operation {
                Self::Add => left.checked_add(right),
                Self::Sub => left.checked_sub(right),
                Self::Mul => left.checked_mul(right),
                Self::Div => left.checked_div(right),
                Self::Min => Some(left.min(right)),
                Self::Max => Some(left.max(right)),
                // The remainder has the sign of the divisor.
                Self::Mod => left.checked_rem(right).map(|rest| {
                    if rest != 0 && (rest < 0) != (right < 0) {
                        rest + right
                    } else {
                        rest
                    }
                }),
                Self::Pow => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
            }
            .map(Dim::Known),
            _ => None,
        }
    }
}

pub(super) fn add<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    binary(import, source, Arithmetic::Add)
}

pub(super) fn sub<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    binary(import, source, Arithmetic::Sub)
}

pub(super) fn mul<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    binary(import, source, Arithmetic::Mul)
}

pub(super) fn div<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    binary(import, source, Arithmetic::Div)
}

pub(super) fn pow<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    binary(import, source, Arithmetic::Pow)
}

/// Computes the remainder. For integers it has the sign of the divisor, for floats (`fmod`) the sign of the dividend.
pub(super) fn modulo<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["fmod"])?;
    let floats = matches!(import.value(source, 0)?, Value::Tensor(_));
    if source.flag("fmod", false)? != floats {
        return unsupported("of floats without fmod, or of integers with it");
    }
    binary(import, source, Arithmetic::Mod)
}

pub(super) fn min<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    variadic(import, source, Arithmetic::Min)
}

pub(super) fn max<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    variadic(import, source, Arithmetic::Max)
}

pub(super) fn sum<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    variadic(import, source, Arithmetic::Add)
}

/// Converts the variadic operators, which may have one or two values.
fn variadic<'a>(import: &mut Import<'a>, source: Source<'a>, operation: Arithmetic) -> Converted {
    match source.proto.input.len() {
        1 => import.value(source, 0),
        2 => binary(import, source, operation),
        inputs => unsupported(format!("of {inputs} values: expected 2")),
    }
}

fn binary<'a>(import: &mut Import<'a>, source: Source<'a>, operation: Arithmetic) -> Converted {
    let (left, right) = (import.value(source, 0)?, import.value(source, 1)?);
    match (&left, &right) {
        (Value::Data(_) | Value::View(_), Value::Data(_) | Value::View(_)) => computed(import, source, operation),
        (Value::Data(_) | Value::View(_), Value::Tensor(constant)) => {
            let input = import.view(source, 0)?;
            with_constant(import, source, &input, constant, operation, false)
        }
        // The exponent may be of another type.
        (Value::Data(_) | Value::View(_), Value::Integers { values, .. }) if operation == Arithmetic::Pow => {
            let input = import.view(source, 0)?;
            match values[..] {
                [Dim::Known(power)] => power_of(import, source, &input, power as f32),
                _ => unsupported("of a computed value and several exponents"),
            }
        }
        (Value::Tensor(constant), Value::Data(_) | Value::View(_)) => {
            let input = import.view(source, 1)?;
            with_constant(import, source, &input, constant, operation, true)
        }
        (Value::Tensor(left), Value::Tensor(right)) => {
            Ok(Value::Tensor(
                import.folded(left, right, |left, right| operation.floats(left, right))?,
            ))
        }
        (
            Value::Integers { dims, values },
            Value::Integers {
                dims: other,
                values: others,
            },
        ) => folding::integers((dims, values), (other, others), |left, right| {
            operation.integers(left, right)
        }),
        (left, right) => unsupported(format!("of {} and {}", left.describe(), right.describe())),
    }
}

/// Converts an operation on two computed values.
fn computed<'a>(import: &mut Import<'a>, source: Source<'a>, operation: Arithmetic) -> Converted {
    let op = match operation {
        Arithmetic::Add => Op::Add,
        Arithmetic::Mul => Op::Mul,
        Arithmetic::Sub => return difference(import, source),
        _ => return unsupported("of two computed values"),
    };
    let (left, right) = (import.view(source, 0)?, import.view(source, 1)?);
    let (left, right) = (import.unexpanded(&left, &right), import.unexpanded(&right, &left));
    let Some(mut joined) = left.joined(&right) else {
        // If both tensors have the layout of the graph, shape inference gives the best error.
        let plain = |view: &View| matches!(import.settled(source, view.clone()), Value::Data(_));
        return match [&left, &right].into_iter().find(|view| !plain(view)) {
            Some(other) => unsupported(format!("one of its inputs is {}", other.describe())),
            None => import.push(source.name, op, vec![left.value, right.value]),
        };
    };
    let maps = [&left, &right].map(|view| matches!(import.shape(view.value), Shape::Map(_)));
    let mut inputs = Vec::with_capacity(2);
    for (view, map) in [&left, &right].into_iter().zip(maps) {
        // A vector combined with a map is treated as a map of one pixel.
        let pixel = maps.contains(&true) && !map && view.is_channels_only();
        let value = if pixel {
            import.pushed_helper(source, "pixel", Op::Unflatten, view.value)?
        } else {
            view.value
        };
        if pixel && joined.value == view.value {
            joined = joined.as_pixel(value);
        }
        inputs.push(value);
    }
    let value = import.push(source.name, op, inputs)?;
    import.arranged(source, &value, &joined)
}

/// Converts a power into products.
fn power_of<'a>(import: &mut Import<'a>, source: Source<'a>, input: &View, power: f32) -> Converted {
    let value = input.value;
    let inputs = match power {
        1.0 => return Ok(import.settled(source, input.clone())),
        2.0 => vec![value, value],
        3.0 => {
            let square = import.push_helper(source, "square", Op::Mul, vec![value, value])?;
            square.computed().into_iter().chain([value]).collect()
        }
        _ => return unsupported(format!("of a computed value to the power {power}: expected 1, 2 or 3")),
    };
    let product = import.push(source.name, Op::Mul, inputs)?;
    import.arranged(source, &product, input)
}

/// Converts `left − right` as `left + (−1) · right`.
fn difference<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let (left, right) = (import.view(source, 0)?, import.view(source, 1)?);
    let Some(joined) = left.joined(&right) else {
        return unsupported("of two computed values in different layouts");
    };
    let channels = import.shape(right.value).channels();
    let negative = Op::ChannelAffine {
        scale: Tensor::new([channels], vec![-1.0; channels]),
        bias: Tensor::new([channels], vec![0.0; channels]),
    };
    let negative = import.pushed_helper(source, "negative", negative, right.value)?;
    let value = import.push(source.name, Op::Add, vec![left.value, negative])?;
    import.arranged(source, &value, &joined)
}

/// Combines a computed value with per-channel constants. `reversed` means that the constant is the first operand.
fn with_constant<'a>(
    import: &mut Import<'a>,
    source: Source<'a>,
    input: &View,
    constant: &Tensor,
    operation: Arithmetic,
    reversed: bool,
) -> Converted {
    if let (Arithmetic::Min | Arithmetic::Max, &[bound]) = (operation, constant.data()) {
        return bounded(import, source, input, bound, operation == Arithmetic::Min);
    }
    if let (Arithmetic::Pow, false, &[power]) = (operation, reversed, constant.data()) {
        return power_of(import, source, input, power);
    }
    let constant = input.per_channel(constant, import.shape(input.value))?;
    import.budget.make(2 * constant.data().len())?;
    let of = |value: &dyn Fn(f32) -> f32| {
        let values: Vec<f32> = constant.data().iter().map(|&constant| value(constant)).collect();
        Tensor::new(constant.shape(), values)
    };
    let (scale, bias) = match (operation, reversed) {
        (Arithmetic::Add, _) => (of(&|_| 1.0), constant.clone()),
        (Arithmetic::Sub, false) => (of(&|_| 1.0), of(&|value| -value)),
        (Arithmetic::Sub, true) => (of(&|_| -1.0), constant.clone()),
        (Arithmetic::Mul, _) => (constant.clone(), of(&|_| 0.0)),
        (Arithmetic::Div, false) => (of(&|value| 1.0 / value), of(&|_| 0.0)),
        (Arithmetic::Div, true) => return unsupported("of a constant by a computed value"),
        (Arithmetic::Min | Arithmetic::Max | Arithmetic::Pow | Arithmetic::Mod, _) => {
            return unsupported(format!("{operation:?} of a computed value and constants per channel"));
        }
    };
    import.push_on(source, Op::ChannelAffine { scale, bias }, input)
}

/// Applies an element-wise function to a constant.
fn unary<'a>(import: &mut Import<'a>, source: Source<'a>, operation: fn(f32) -> f32) -> Converted {
    match import.value(source, 0)? {
        Value::Tensor(tensor) => import.mapped(&tensor, operation),
        other => unsupported(format!("of {}: expected a float constant", other.describe())),
    }
}

pub(super) fn sqrt<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    unary(import, source, f32::sqrt)
}

pub(super) fn reciprocal<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    unary(import, source, f32::recip)
}

pub(super) fn ceil<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    unary(import, source, f32::ceil)
}

pub(super) fn floor<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    unary(import, source, f32::floor)
}

pub(super) fn exp<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    unary(import, source, f32::exp)
}

pub(super) fn neg<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    match import.value(source, 0)? {
        Value::Integers { dims, values } => {
            let zero = (&[][..], &[Dim::Known(0)][..]);
            folding::integers(zero, (&dims, &values), |zero, value| {
                Arithmetic::Sub.integers(zero, value)
            })
        }
        _ => unary(import, source, |value| -value),
    }
}

pub(super) fn equal<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    compare(import, source, |left, right| left == right)
}

pub(super) fn less<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    compare(import, source, |left, right| left < right)
}

pub(super) fn greater<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    compare(import, source, |left, right| left > right)
}

/// Compares known integers. The batch size is unknown: it equals no number in the file except −1, which denotes it.
fn compare<'a>(import: &mut Import<'a>, source: Source<'a>, holds: fn(i64, i64) -> bool) -> Converted {
    let (left, right) = (import.value(source, 0)?, import.value(source, 1)?);
    let (
        Value::Integers { dims, values },
        Value::Integers {
            dims: other,
            values: others,
        },
    ) = (&left, &right)
    else {
        return unsupported(format!("of {} and {}", left.describe(), right.describe()));
    };
    folding::integers((dims, values), (other, others), |left, right| match (left, right) {
        (Dim::Known(left), Dim::Known(right)) => Some(Dim::Known(holds(left, right).into())),
        // Exporters check whether a size is −1 (not given) before they use it.
        (Dim::Batch(_), Dim::Known(value)) | (Dim::Known(value), Dim::Batch(_)) if value < 0 => {
            Some(Dim::Known(holds(1, value).into()))
        }
        _ => None,
    })
}

/// Converts `Where` on integers, which computes the sizes of an Expand.
pub(super) fn choose<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let values = [0, 1, 2].map(|index| import.value(source, index));
    let [condition, yes, no] = values;
    let (condition, yes, no) = (condition?, yes?, no?);
    let [Some(condition), Some(yes), Some(no)] = [&condition, &yes, &no].map(known) else {
        return unsupported(format!(
            "of {}, {} and {}: expected known integers",
            condition.describe(),
            yes.describe(),
            no.describe()
        ));
    };
    // In `yes`, elements that must come from `no` are replaced by the smallest integer as a mark, and vice versa.
    let pick = |wanted: bool, side: folding::Integers<'_>| {
        folding::integers(condition, side, move |condition, value| {
            Some(if (condition != Dim::Known(0)) == wanted {
                value
            } else {
                Dim::Known(i64::MIN)
            })
        })
    };
    let (first, second) = (pick(true, yes)?, pick(false, no)?);
    let (Some(first), Some(second)) = (known(&first), known(&second)) else {
        return Err(Refusal::Tainted);
    };
    folding::integers(first, second, |first, second| {
        Some(if first == Dim::Known(i64::MIN) { second } else { first })
    })
}

fn known(value: &Value) -> Option<folding::Integers<'_>> {
    match value {
        Value::Integers { dims, values } => Some((dims, values)),
        _ => None,
    }
}

/// Clips integers; `None` if the input is something else.
pub(super) fn clipped_integers<'a>(import: &mut Import<'a>, source: Source<'a>) -> Result<Option<Value>, Refusal> {
    let Value::Integers { dims, values } = import.value(source, 0)? else {
        return Ok(None);
    };
    let mut clipped = Value::Integers { dims, values };
    for (index, operation) in [(1, Arithmetic::Max), (2, Arithmetic::Min)] {
        let Some(bound) = import.optional(source, index)? else {
            continue;
        };
        let (Some(value), Some(bound)) = (known(&clipped), known(&bound)) else {
            return unsupported(format!("bound: expected an integer constant, got {}", bound.describe()));
        };
        clipped = folding::integers(value, bound, |value, bound| operation.integers(value, bound))?;
    }
    Ok(Some(clipped))
}
