//! Conversions, one per operator. `docs/guide/adding-an-operator.md` describes how to add one.

mod activations;
mod arithmetic;
mod constants;
mod convolution;
mod dense;
mod layout;
mod norms;
mod pooling;
mod quantisation;
mod reshape;
mod resize;
mod selection;
mod shapes;
mod standardised;

use super::{Import, attributes::Source, value::Converted};

pub(super) use quantisation::{conv_weights, moves};
pub(super) use reshape::normalise;
pub(super) use selection::split;

/// Conversion of a node. Returns the value of its first output.
pub(super) type Operator = for<'a> fn(&mut Import<'a>, Source<'a>) -> Converted;

/// Returns the conversion for an ONNX operator of the default domain.
pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Add" => arithmetic::add,
        "AveragePool" => pooling::average_pool,
        "BatchNormalization" => convolution::batch_norm,
        "Cast" => constants::cast,
        "CastLike" => constants::cast_like,
        "Ceil" => arithmetic::ceil,
        "Clip" => activations::clip,
        "Concat" => layout::concat,
        "Constant" => constants::constant,
        "ConstantOfShape" => constants::constant_of_shape,
        "Conv" => convolution::conv,
        "DequantizeLinear" => quantisation::dequantise,
        "Div" => arithmetic::div,
        "Dropout" => constants::dropout,
        "Elu" => activations::elu,
        "Equal" => arithmetic::equal,
        "Exp" => arithmetic::exp,
        "Expand" => shapes::expand,
        "Flatten" => reshape::flatten,
        "Floor" => arithmetic::floor,
        "Gather" => shapes::gather,
        "Gelu" => activations::gelu,
        "Gemm" => dense::gemm,
        "GlobalAveragePool" => pooling::global_average_pool,
        "Greater" => arithmetic::greater,
        "GroupNormalization" => norms::group_norm,
        "HardSigmoid" => activations::hard_sigmoid,
        "HardSwish" => activations::hard_swish,
        "Identity" => constants::identity,
        "InstanceNormalization" => norms::instance_norm,
        "LayerNormalization" => norms::layer_norm,
        "LeakyRelu" => activations::leaky_relu,
        "Less" => arithmetic::less,
        "MatMul" => dense::matmul,
        "Max" => arithmetic::max,
        "MaxPool" => pooling::max_pool,
        "Min" => arithmetic::min,
        "Mish" => activations::mish,
        "Mod" => arithmetic::modulo,
        "Mul" => arithmetic::mul,
        "Neg" => arithmetic::neg,
        "PRelu" => activations::prelu,
        "Pad" => convolution::pad,
        "Pow" => arithmetic::pow,
        "QuantizeLinear" => quantisation::quantise,
        "Range" => constants::range,
        "Reciprocal" => arithmetic::reciprocal,
        "ReduceMean" => pooling::reduce_mean,
        "ReduceSum" => pooling::reduce_sum,
        "Relu" => activations::relu,
        "Reshape" => reshape::reshape,
        "Resize" | "Upsample" => resize::resize,
        "Shape" => shapes::shape,
        "Sigmoid" => activations::sigmoid,
        "Size" => shapes::size,
        "Slice" => shapes::slice,
        "Softmax" => norms::softmax,
        "Split" => selection::first_part,
        "Sqrt" => arithmetic::sqrt,
        "Squeeze" => reshape::squeeze,
        "Sub" => arithmetic::sub,
        "Sum" => arithmetic::sum,
        "Swish" => activations::swish,
        "Tanh" => activations::tanh,
        "Transpose" => layout::transpose,
        "Unsqueeze" => reshape::unsqueeze,
        "Where" => arithmetic::choose,
        _ => return None,
    })
}
