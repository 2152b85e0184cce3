//! Loss of a quantised backbone: error of the features, and agreement of the original classifier.

use clr_adapters::Head;
use clr_learning::argmax;
use clr_onnx::{Backbone, Program};
use clr_runtime::{Executable, ExecutableOptions};
use rayon::prelude::*;

use crate::{Loss, QuantisationError, images::Input};

/// Returns the features of preprocessed images, as devices compute them: a quantised backbone computes on bytes.
pub(crate) fn features(
    backbone: &Backbone,
    sizes: &[[usize; 2]],
    inputs: &[Input],
) -> Result<Vec<Vec<f32>>, QuantisationError> {
    let mut options: Option<ExecutableOptions> = None;
    let mut executables = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let program = Program::lower(backbone, size)?;
        let options =
            options.get_or_insert_with(|| ExecutableOptions::new(&program).with_integer(backbone.is_quantised()));
        let executable = Executable::new(&program, options)?;
        executables.push((executable.frozen_parameters(), executable));
    }
    let one = |input: &Input| {
        let (parameters, executable) = &executables[input.size];
        executable.features(&input.values, parameters)
    };
    Ok(inputs.par_iter().map(one).collect())
}

/// Measures a quantised backbone against the features of the float one.
pub(crate) fn loss([float, quantised]: [&Backbone; 2], reference: &[Vec<f32>], features: &[Vec<f32>]) -> Loss {
    let heads = float.classifier().zip(quantised.classifier());
    let agreement = heads.map(|(float, quantised)| {
        let same = reference.iter().zip(features);
        let same = same.filter(|(before, after)| first_class(float, before) == first_class(quantised, after));
        same.count() as f64 / reference.len().max(1) as f64
    });
    Loss {
        error: relative_error(reference, features),
        agreement,
        images: reference.len(),
    }
}

/// Returns the mean over the images of ‖features − reference‖ / ‖reference‖. Infinite if a feature is NaN.
pub(crate) fn relative_error(reference: &[Vec<f32>], features: &[Vec<f32>]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let one = |(before, after): (&Vec<f32>, &Vec<f32>)| {
        let error = norm(
            &mut before
                .iter()
                .zip(after)
                .map(|(&before, &after)| f64::from(after) - f64::from(before)),
        );
        error / norm(&mut before.iter().map(|&x| f64::from(x))).max(f64::MIN_POSITIVE)
    };
    let error = reference.iter().zip(features).map(one).sum::<f64>() / reference.len().max(1) as f64;
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Returns the class with the largest logit.
fn first_class(head: &Head, features: &[f32]) -> usize {
    let logits = head
        .weight
        .chunks_exact(head.features)
        .zip(&head.bias)
        .map(|(weights, bias)| {
            let sum: f32 = weights
                .iter()
                .zip(features)
                .map(|(weight, feature)| weight * feature)
                .sum();
            sum + bias
        });
    argmax(&logits.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_relative_to_the_norm_and_nan_is_never_accepted() {
        let reference = vec![vec![3.0, 4.0], vec![0.0, 2.0]];
        assert_eq!(relative_error(&reference, &[vec![3.0, 5.0], vec![0.0, 2.0]]), 0.1);
        assert_eq!(
            relative_error(&reference, &[vec![3.0, f32::NAN], vec![0.0, 2.0]]),
            f64::INFINITY
        );
    }
}
