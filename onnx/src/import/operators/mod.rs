//! One conversion per operator. `docs/adding-an-operator.md` says how to add one.

mod convolution;
mod dense;
mod elementwise;
mod pooling;
mod reshape;
mod shapes;

use super::{Import, attributes::Source, value::Converted};

/// Converts a node; the value is that of its first output.
pub(super) type Operator = for<'a> fn(&mut Import<'a>, Source<'a>) -> Converted;

/// The conversion of an ONNX operator of the default domain.
pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Add" => elementwise::add,
        "AveragePool" => pooling::average_pool,
        "BatchNormalization" => convolution::batch_norm,
        "Cast" => shapes::cast,
        "Clip" => elementwise::clip,
        "Concat" => shapes::concat,
        "Constant" => shapes::constant,
        "Conv" => convolution::conv,
        "Div" => elementwise::div,
        "Dropout" => shapes::dropout,
        "Flatten" => reshape::flatten,
        "Gather" => shapes::gather,
        "Gemm" => dense::gemm,
        "GlobalAveragePool" => pooling::global_average_pool,
        "HardSigmoid" => elementwise::hard_sigmoid,
        "HardSwish" => elementwise::hard_swish,
        "Identity" => shapes::identity,
        "LeakyRelu" => elementwise::leaky_relu,
        "MatMul" => dense::matmul,
        "MaxPool" => pooling::max_pool,
        "Mul" => elementwise::mul,
        "PRelu" => elementwise::prelu,
        "Pad" => convolution::pad,
        "ReduceMean" => pooling::reduce_mean,
        "Relu" => elementwise::relu,
        "Reshape" => reshape::reshape,
        "Shape" => shapes::shape,
        "Sigmoid" => elementwise::sigmoid,
        "Slice" => shapes::slice,
        "Squeeze" => reshape::squeeze,
        "Sub" => elementwise::sub,
        "Transpose" => shapes::transpose,
        "Unsqueeze" => reshape::unsqueeze,
        _ => return None,
    })
}
