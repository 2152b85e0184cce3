//! Differentiable operators, compared with finite differences, with PyTorch, and between numbers of threads.

mod cases;
mod finite_differences;
mod threads;
mod torch;

use candle_core::{Device, Tensor, Var};
use clr_onnx::{Activation, Conv, Padding, Pool};
use clr_training::ops;

/// Returns `count` values in [−1, 1), the same as in `tests/tools/torch_gradients.py`.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Returns a variable of those values times `scale`.
fn variable(shape: &[usize], seed: u32, scale: f32) -> Var {
    let values = values(shape.iter().product(), seed)
        .into_iter()
        .map(|x| x * scale)
        .collect();
    let tensor = Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).expect("a tensor");
    Var::from_tensor(&tensor).expect("a variable")
}

/// Returns a frozen convolution with those values as weights.
fn convolution(
    weight: [usize; 4],
    group: usize,
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> ops::FrozenConv {
    let weight = clr_onnx::Tensor::new(weight, values(weight.iter().product(), 2));
    let conv = Conv {
        weight: weight.into(),
        bias: None,
        stride,
        dilation,
        group,
        padding,
    };
    ops::FrozenConv::new(&conv, &Device::Cpu).expect("a convolution")
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|tensor| tensor.to_vec1())
        .expect("values")
}

/// Returns the gradients of `Σ y · weights` for `variables`. The weights are the values of seed 99.
fn gradients(y: &Tensor, variables: &[Var]) -> Vec<Vec<f32>> {
    let weights = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), &Device::Cpu).expect("weights");
    let store = (y * weights)
        .and_then(|y| y.sum_all())
        .and_then(|loss| loss.backward())
        .expect("gradients");
    let of = |variable: &Var| flat(store.get(variable.as_tensor()).expect("a gradient for every variable"));
    variables.iter().map(of).collect()
}

/// Returns the largest difference, relative to the largest expected magnitude.
fn distance(expected: &[f32], got: &[f32]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let largest = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    expected.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

fn activation(name: &str) -> Option<Activation> {
    match name {
        "relu" => Some(Activation::Relu),
        "relu6" => Some(Activation::Clip { min: 0.0, max: 6.0 }),
        "leaky" => Some(Activation::LeakyRelu { alpha: 0.1 }),
        "sigmoid" => Some(Activation::Sigmoid),
        "hard-sigmoid" => Some(Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5,
        }),
        "hard-swish" => Some(Activation::HardSwish),
        "silu" => Some(Activation::Silu),
        _ => None,
    }
}

const ACTIVATIONS: [&str; 8] = [
    "none",
    "relu",
    "relu6",
    "leaky",
    "sigmoid",
    "hard-sigmoid",
    "hard-swish",
    "silu",
];

fn pool(kernel: usize, stride: usize, pads: [usize; 4], ceil: bool, count_include_pad: bool) -> Pool {
    Pool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: Padding::Explicit(pads),
        ceil,
        count_include_pad,
    }
}
