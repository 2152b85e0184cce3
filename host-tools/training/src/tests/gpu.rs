//! The network on a GPU compared with the CPU. Passes without a comparison if there is no GPU.

use candle_core::{Device, Result};
use clr_adapters::Recipe;

use super::fixtures::{SIDE, backbone, mean_loss, noise};
use crate::{Adam, AdamOptions, CandleBackbone, Mode, Network, PerGroup};

/// Losses and parameters of two steps.
fn two_steps(recipe: Recipe, mode: Mode, device: &Device) -> Result<Vec<(String, Vec<f32>)>> {
    let candle = CandleBackbone::new(&backbone(), device).unwrap();
    let mut network = Network::new(&backbone(), recipe, 3, 5).unwrap();
    let x = noise(4, SIDE as usize).to_device(device)?;
    let options = AdamOptions::new(PerGroup::all(1e-3))
        .with_decay(PerGroup::all(0.1))
        .with_relative(true)
        .with_l2_norm(1e-5)
        .with_clip(Some(1.0))
        .with_beta2(0.99);
    let mut adam = Adam::new(network.parameters(), options, None);
    let mut results = Vec::new();
    for _ in 0..2 {
        let loss = mean_loss(&[0, 1, 2, 1], 3);
        let output = candle.forward_backward(&mut network, &x, mode, None, &loss).unwrap();
        results.push(("loss".to_owned(), vec![output.loss]));
        network.set_values(adam.step(&output.gradients, 1.0)).unwrap();
    }
    results.push((
        "logits".to_owned(),
        candle.logits(&network, &x).unwrap().flatten_all()?.to_vec1()?,
    ));
    for parameter in network.parameters() {
        results.push((parameter.name, parameter.values));
    }
    Ok(results)
}

#[test]
fn two_steps_on_a_gpu_are_those_on_the_cpu() -> Result<()> {
    let gpu = match Device::new_cuda(0) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("not checked, no GPU: {error}");
            return Ok(());
        }
    };
    for recipe in Recipe::ALL {
        for mode in [Mode::Train, Mode::TrainOnBatch { momentum: 0.1 }] {
            let (expected, got) = (two_steps(recipe, mode, &Device::Cpu)?, two_steps(recipe, mode, &gpu)?);
            for ((name, expected), (_, got)) in expected.iter().zip(&got) {
                let largest = expected.iter().fold(1e-2f32, |largest, x| largest.max(x.abs()));
                for (a, b) in expected.iter().zip(got) {
                    // Adam's first steps only depend on the sign of the gradient, and a gradient close to zero may have
                    // either sign.
                    let error = (a - b).abs() / largest;
                    assert!(error < 5e-3, "{recipe} {mode:?} {name}: expected {a}, got {b}");
                }
            }
        }
    }
    Ok(())
}
