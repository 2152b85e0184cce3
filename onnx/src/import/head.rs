//! Conversion of the last layer to a linear classifier: following constants are merged, and its units become classes.

use clr_adapters::Head;

use crate::graph::BatchNorm;

/// Scale and bias of a norm, per channel.
pub(super) fn norm_as_affine(norm: &BatchNorm) -> (Vec<f64>, Vec<f64>) {
    let deviation = |variance: f32| (f64::from(variance) + f64::from(norm.epsilon)).sqrt();
    let scale: Vec<f64> = (norm.scale.data().iter().zip(norm.variance.data()))
        .map(|(&scale, &variance)| f64::from(scale) / deviation(variance))
        .collect();
    let bias = (norm.bias.data().iter().zip(norm.mean.data()).zip(&scale))
        .map(|((&bias, &mean), scale)| f64::from(bias) - f64::from(mean) * scale)
        .collect();
    (scale, bias)
}

/// Multiplies and adds constants per unit. Returns `None` if their number differs from the number of units.
pub(super) fn scale(head: &mut Head, scale: &[f64], bias: &[f64]) -> Option<()> {
    (scale.len() == head.bias.len() && bias.len() == head.bias.len() && head.features > 0).then_some(())?;
    for (unit, (&scale, &bias)) in scale.iter().zip(bias).enumerate() {
        let row = &mut head.weight[unit * head.features..][..head.features];
        for value in row {
            *value = (f64::from(*value) * scale) as f32;
        }
        head.bias[unit] = (f64::from(head.bias[unit]) * scale + bias) as f32;
    }
    Some(())
}

/// Returns the units of the last layer as mutually exclusive classes. With `binary`, a single unit is the logit of the
/// second of two classes.
pub(super) fn as_classes(head: Head, name: &str, sigmoid: bool, binary: bool, notes: &mut Vec<String>) -> Option<Head> {
    if head.bias.len() > 1 {
        if sigmoid {
            notes.push(
                "the Sigmoid at the end is left out, the outputs are logits: the model judges every class by itself, \
                 and its classifier is kept as one of classes that exclude one another"
                    .to_owned(),
            );
        }
        return Some(head);
    }
    if !binary {
        notes.push(format!(
            "`{name}` has one unit and no Sigmoid after it: it may be a regression, so it is not kept as a classifier, and \
             the features are what it reads; two labels given with --labels make it one of two classes"
        ));
        return None;
    }
    notes.push(format!(
        "`{name}` has one unit: it is kept as a classifier of two classes, of which the unit \
         gives the second"
    ));
    // softmax([0, z]) = [1 − σ(z), σ(z)].
    let mut two = Head {
        features: head.features,
        weight: vec![0.0; head.features],
        bias: vec![0.0],
    };
    two.weight.extend(head.weight);
    two.bias.extend(head.bias);
    Some(two)
}
