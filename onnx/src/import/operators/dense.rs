//! Gemm and `MatMul` (its Add joins it in the canonical form).

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Converted, unsupported},
    },
    shapes::transposed,
};
use crate::{Shape, Tensor, graph::Op};

pub(super) fn gemm<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&["alpha", "beta", "transA", "transB"])?;
    if source.flag("transA", false)? {
        return unsupported("transA");
    }
    let input = import.data(source, 0)?;
    let weight = import.tensor(source, 1)?;
    let weight = if source.flag("transB", false)? {
        weight
    } else {
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
    import.push(source.name, Op::Dense { weight, bias }, vec![input])
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

pub(super) fn matmul<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    let input = import.data(source, 0)?;
    let weight = import.tensor(source, 1)?;
    let (&[_, outputs], Shape::Vector(_)) = (weight.shape(), import.shape(input)) else {
        return unsupported(format!(
            "of {} and {:?}: expected [N, I] and [I, O]",
            import.shape(input),
            weight.shape()
        ));
    };
    let op = Op::Dense {
        weight: transposed(&weight),
        bias: Tensor::new([outputs], vec![0.0; outputs]),
    };
    import.push(source.name, op, vec![input])
}
