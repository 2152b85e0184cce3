//! Comparison of a training device's results with the CPU's.

use candle_core::{Device, Tensor, Var};
use clr_onnx::{Activation, Conv, Padding, Pool};

use crate::{
    error::{Result, TrainError},
    ops::{self, FrozenConv},
};

/// Maximum difference from the CPU's result, relative to the largest value.
const LIMIT: f32 = 1e-3;

/// Runs every operator forwards and backwards on small maps, both on `device` and on the CPU, and compares the results.
/// Takes about a second, and detects an unsuitable driver or GPU before a run depends on it.
pub fn check_device(device: &Device) -> Result<()> {
    for operator in operators() {
        let difference = operator.difference(device)?;
        if difference.is_nan() || difference > LIMIT {
            return Err(TrainError::WrongDevice {
                operator: operator.name,
                difference,
            });
        }
    }
    Ok(())
}

type Run = Box<dyn Fn(&[Var], &Device) -> candle_core::Result<Tensor>>;

/// An operator, with the shapes of its arguments.
struct Operator {
    name: &'static str,
    arguments: Vec<Vec<usize>>,
    run: Run,
}

impl Operator {
    fn difference(&self, device: &Device) -> Result<f32> {
        let (expected, got) = (self.results(&Device::Cpu)?, self.results(device)?);
        let difference = |(expected, got): (&Vec<f32>, &Vec<f32>)| {
            let largest = expected.iter().fold(1e-2f32, |largest, x| largest.max(x.abs()));
            let differences = expected.iter().zip(got).map(|(a, b)| (a - b).abs() / largest);
            // `max` would drop a NaN.
            differences.fold(0.0, |worst: f32, x| if x.is_nan() || x > worst { x } else { worst })
        };
        let differences = expected.iter().zip(&got).map(difference);
        Ok(differences.fold(0.0, |worst: f32, x| if x.is_nan() || x > worst { x } else { worst }))
    }

    fn results(&self, device: &Device) -> candle_core::Result<Vec<Vec<f32>>> {
        let arguments: Vec<Vec<f32>> = (self.arguments.iter().zip(1..))
            .map(|(shape, seed)| values(shape.iter().product(), seed))
            .collect();
        let shaped: Vec<(&[usize], &[f32])> = (self.arguments.iter().zip(&arguments))
            .map(|(shape, values)| (&shape[..], &values[..]))
            .collect();
        value_and_gradients(&shaped, device, |variables| (self.run)(variables, device))
    }
}

/// Returns the result of `run` on the arguments (shape and values), followed by the gradient of `Σ y · dy` for each
/// argument. `dy` are the values of seed 99.
pub(crate) fn value_and_gradients(
    arguments: &[(&[usize], &[f32])],
    device: &Device,
    run: impl FnOnce(&[Var]) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Vec<Vec<f32>>> {
    let variables = arguments
        .iter()
        .map(|(shape, values)| Var::from_tensor(&Tensor::from_slice(values, *shape, device)?))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let y = run(&variables)?;
    let dy = Tensor::from_vec(values(y.elem_count(), 99), y.shape(), device)?;
    let gradients = (&y * dy)?.sum_all()?.backward()?;
    let mut results = vec![y.flatten_all()?.to_vec1()?];
    for (index, variable) in variables.iter().enumerate() {
        match gradients.get(variable) {
            Some(gradient) => results.push(gradient.flatten_all()?.to_vec1()?),
            None => candle_core::bail!("argument {index} got no gradient"),
        }
    }
    Ok(results)
}

/// Returns numbers in −2 to 2 from a linear congruential generator.
pub(crate) fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 4_194_304.0 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn operators() -> Vec<Operator> {
    let map = || vec![3, 6, 19, 17];
    let (vector, kernel) = (|| vec![6], || vec![6, 1, 3, 3]);
    let act = Some(Activation::HardSwish);
    let mut all = Vec::new();
    let mut add = |name, arguments, run: Run| all.push(Operator { name, arguments, run });
    for (name, shape, stride, group) in [
        ("1×1 convolution", [8, 6, 1, 1], 1, 1),
        ("3×3 convolution", [8, 6, 3, 3], 2, 1),
        ("grouped convolution", [4, 3, 3, 3], 1, 2),
        ("depthwise convolution", [6, 1, 5, 5], 2, 6),
    ] {
        let conv = Conv {
            weight: clr_onnx::Tensor::new(shape, values(shape.iter().product(), 7)).into(),
            bias: None,
            stride: [stride; 2],
            dilation: [1; 2],
            group,
            padding: Padding::SameUpper,
        };
        let run: Run = Box::new(move |v, device| FrozenConv::new(&conv, device)?.forward(&v[0]));
        add(name, vec![map()], run);
    }
    let run: Run = Box::new(|v, _| ops::clr_depthwise(&v[0], &v[1]));
    add("CLR layer", vec![map(), kernel()], run);
    let run: Run = Box::new(move |v, _| ops::clr_site(&v[0], &v[1], &v[2], act));
    add("CLR site", vec![map(), kernel(), vector()], run);
    let run: Run = Box::new(move |v, _| ops::scale_shift(&v[0], &v[1], &v[2], act));
    add("scale and shift", vec![map(), vector(), vector()], run);
    let run: Run = Box::new(move |v, _| Ok(ops::batch_norm(&v[0], &v[1], &v[2], 1e-3, act)?.0));
    add("batch norm", vec![map(), vector(), vector()], run);
    let run: Run = Box::new(move |v, _| Ok(ops::clr_batch_norm(&v[0], &v[1], &v[2], &v[3], 1e-3, act)?.0));
    add("CLR batch norm", vec![map(), kernel(), vector(), vector()], run);
    let run: Run = Box::new(move |v, _| ops::add_activation(&v[0], &v[1], Some(Activation::Relu)));
    add("sum", vec![map(), map()], run);
    let run: Run = Box::new(|v, _| ops::activation(&v[0], Activation::Silu));
    add("activation", vec![map()], run);
    let run: Run = Box::new(|v, _| ops::prelu(&v[0], &v[1]));
    add("PRelu", vec![map(), vector()], run);
    let pool = Pool {
        kernel: [3; 2],
        stride: [2; 2],
        padding: Padding::Explicit([1; 4]),
        ceil: false,
        count_include_pad: false,
    };
    let run: Run = Box::new(move |v, _| ops::max_pool(&v[0], &pool));
    add("maximum pool", vec![map()], run);
    let run: Run = Box::new(move |v, _| ops::average_pool(&v[0], &pool));
    add("average pool", vec![map()], run);
    let run: Run = Box::new(|v, _| ops::global_average_pool(&v[0]));
    add("global pool", vec![map()], run);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_gives_each_of_its_arguments_a_gradient() {
        check_device(&Device::Cpu).unwrap();
    }

    /// Passes without a comparison if there is no GPU.
    #[cfg(feature = "cuda")]
    #[test]
    fn the_gpu_computes_what_the_cpu_does() {
        match Device::new_cuda(0) {
            Ok(device) => check_device(&device).unwrap(),
            Err(error) => println!("not checked, no GPU: {error}"),
        }
    }
}
