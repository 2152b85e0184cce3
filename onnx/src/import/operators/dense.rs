//! Gemm and `MatMul`. The Add after a `MatMul` is merged in the canonical form.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, Value, unsupported},
        view::View,
    },
    layout::transposed,
};
use crate::{
    Shape, Tensor,
    graph::{Conv, Op, Padding},
};

pub(super) fn gemm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha", "beta", "transA", "transB"])?;
    if source.flag("transA", false)? {
        return unsupported("transA");
    }
    let input = import.view(source, 0)?;
    let weight = import.tensor(source, 1)?;
    let weight = if source.flag("transB", false)? {
        weight
    } else {
        import.budget.make(weight.data().len())?;
        transposed(&weight)
    };
    let &[outputs, _] = weight.shape() else {
        return unsupported(format!("weight {:?}: expected a matrix", weight.shape()));
    };
    let weight = times(&weight, source.float("alpha", 1.0)?);
    let bias = if source.input(2).is_some() {
        let bias = import.tensor(source, 2)?;
        let bias = times(&bias, source.float("beta", 1.0)?);
        match (bias.shape(), bias.data()) {
            (_, &[value]) => Tensor::new([outputs], vec![value; outputs]),
            (&[length] | &[1, length], _) if length == outputs => Tensor::new([outputs], bias.shared()),
            (shape, _) => return unsupported(format!("bias {shape:?}: expected [{outputs}]")),
        }
    } else {
        Tensor::new([outputs], vec![0.0; outputs])
    };
    dense(import, source, &input, weight, bias)
}

/// Adds a dense layer on a vector. The features of its weight `[O, F]` have the file's order.
fn dense<'a>(import: &mut Import<'a>, source: Source<'a>, input: &View, weight: Tensor, bias: Tensor) -> Converted {
    let weight = if let Value::Data(_) = import.settled(source, input.clone()) {
        weight
    } else {
        import.budget.make(weight.data().len())?;
        let Some(weight) = input.vector(&weight) else {
            return unsupported(format!("input 0: expected a vector, got {}", input.describe()));
        };
        weight
    };
    let op = Op::Dense { weight, bias };
    import.push(source.name, op, vec![input.value])
}

fn times(tensor: &Tensor, factor: f32) -> Tensor {
    if factor == 1.0 {
        return tensor.clone();
    }
    Tensor::new(
        tensor.shape(),
        tensor.data().iter().map(|value| value * factor).collect::<Vec<_>>(),
    )
}

/// Adds a dense layer on a vector; for a map with the channels last, adds a 1×1 convolution.
pub(super) fn matmul<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.view(source, 0)?;
    let weight = import.tensor(source, 1)?;
    let shape = import.shape(input.value);
    let &[features, outputs] = weight.shape() else {
        return unsupported(format!(
            "of {shape} and {:?}: expected [N, I] and [I, O]",
            weight.shape()
        ));
    };
    import.budget.make(weight.data().len())?;
    match shape {
        Shape::Vector(_) if input.rank() == 2 => {
            let bias = Tensor::new([outputs], vec![0.0; outputs]);
            dense(import, source, &input, transposed(&weight), bias)
        }
        Shape::Map(_) if input.is_channels(input.rank() - 1) => {
            let conv = Conv {
                weight: Tensor::new([outputs, features, 1, 1], transposed(&weight).shared()).into(),
                bias: None,
                stride: [1, 1],
                dilation: [1, 1],
                group: 1,
                padding: Padding::Explicit([0; 4]),
            };
            import.push_on(source, Op::Conv(conv), &input)
        }
        _ => unsupported(format!(
            "of {} and {:?}: expected [N, I] and [I, O]",
            input.describe(),
            weight.shape()
        )),
    }
}
