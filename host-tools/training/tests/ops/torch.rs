//! Values and gradients compared with PyTorch's, from `tests/tools/torch_gradients.py`.

use super::{activation, convolution, distance, flat, gradients, ops, pool, variable};
use candle_core::{Result, Tensor, Var};
use clr_onnx::Padding;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|x| x.as_f64().expect("a number") as f32)
        .collect()
}

fn sizes<const N: usize>(value: &Value) -> [usize; N] {
    let sizes = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|x| x.as_u64().expect("a size") as usize);
    sizes.collect::<Vec<_>>().try_into().expect("as many sizes")
}

/// Returns the operator's result and its variables, named as in the fixture.
fn run(case: &Value) -> Result<(Tensor, Vec<(&'static str, Var)>)> {
    let map: [usize; 4] = sizes(&case["input"]);
    let channels = map[1];
    let act = activation(case["activation"].as_str().unwrap_or("none"));
    let vector = |seed| variable(&[channels], seed, 1.0);
    let kernel = |seed| variable(&[channels, 1, 3, 3], seed, 1.0);
    let flag = |name: &str| case[name].as_bool().unwrap_or(false);
    let window = || {
        let (kernel, stride) = (sizes::<2>(&case["kernel"])[0], sizes::<2>(&case["stride"])[0]);
        pool(kernel, stride, sizes(&case["pads"]), flag("ceil"), flag("count"))
    };
    let one = variable(&map, 1, 1.0);
    let two = variable(&map, 1, 2.0);
    Ok(match case["op"].as_str().expect("an operator") {
        "conv" => {
            let group = case["group"].as_u64().expect("a group") as usize;
            let outputs = case["outputs"].as_u64().expect("outputs") as usize;
            let [kh, kw] = sizes(&case["kernel"]);
            let padding = Padding::Explicit(sizes(&case["pads"]));
            let weight = [outputs, channels / group, kh, kw];
            let conv = convolution(weight, group, sizes(&case["stride"]), sizes(&case["dilation"]), padding);
            (conv.forward(&one)?, vec![("x", one)])
        }
        "site" => {
            let (kernel, bias) = (kernel(2), vector(3));
            (
                ops::clr_site(&two, &kernel, &bias, act)?,
                vec![("x", two), ("kernel", kernel), ("bias", bias)],
            )
        }
        "scale" => {
            let (x, scale, bias) = (variable(&map, 1, 4.0), vector(2), vector(3));
            (
                ops::scale_shift(&x, &scale, &bias, act)?,
                vec![("x", x), ("scale", scale), ("bias", bias)],
            )
        }
        "activation" => {
            let x = variable(&map, 1, 5.0);
            let y = match act {
                Some(act) => ops::activation(&x, act)?,
                None => x.as_tensor().affine(1.0, 0.0)?,
            };
            (y, vec![("x", x)])
        }
        "norm" => {
            let (gamma, beta) = (vector(2), vector(3));
            let y = ops::batch_norm(&two, &gamma, &beta, 1e-3, act)?.0;
            (y, vec![("x", two), ("gamma", gamma), ("beta", beta)])
        }
        "site-norm" => {
            let (kernel, gamma, beta) = (kernel(4), vector(2), vector(3));
            let y = ops::clr_batch_norm(&two, &kernel, &gamma, &beta, 1e-3, act)?.0;
            (
                y,
                vec![("x", two), ("kernel", kernel), ("gamma", gamma), ("beta", beta)],
            )
        }
        "prelu" => {
            let slope = vector(2);
            (ops::prelu(&one, &slope)?, vec![("x", one), ("slope", slope)])
        }
        "max" => (ops::max_pool(&one, &window())?, vec![("x", one)]),
        "average" => (ops::average_pool(&one, &window())?, vec![("x", one)]),
        "global" => (ops::global_average_pool(&one)?, vec![("x", one)]),
        other => panic!("unknown operator {other}"),
    })
}

#[test]
fn values_and_gradients_agree_with_pytorch() -> Result<()> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/torch_gradients.json")).expect("a fixture");
    assert!(cases.len() > 40);
    for case in &cases {
        let (y, variables) = run(case)?;
        let mut parameters = case.clone();
        for bulk in ["values", "gradients"] {
            parameters.as_object_mut().expect("an object").remove(bulk);
        }
        assert_eq!(y.dims(), sizes::<4>(&case["output"]), "{parameters}");
        let error = distance(&numbers(&case["values"]), &flat(&y));
        assert!(error < 1e-4, "{parameters}: values differ by {error:.1e}");
        let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
        let variables: Vec<_> = variables.into_iter().map(|(_, variable)| variable).collect();
        for (name, gradient) in names.iter().zip(gradients(&y, &variables)) {
            let error = distance(&numbers(&case["gradients"][*name]), &gradient);
            assert!(error < 1e-4, "{parameters}: gradient of {name} differs by {error:.1e}");
        }
    }
    Ok(())
}
