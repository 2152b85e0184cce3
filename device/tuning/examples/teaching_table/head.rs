//! A head fitted by logistic regression to stored features.

use clr_adapters::Head;
use clr_learning::log_probability;

use crate::task::Seen;

pub(crate) fn logits(head: &Head, x: &[f32]) -> Vec<f32> {
    let rows = head.weight.chunks_exact(head.features).zip(&head.bias);
    rows.map(|(row, &bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + bias)
        .collect()
}

/// Fits a head by logistic regression with a penalty on centred features, by Adam with full batches.
pub(crate) fn fit(images: &[(usize, &Seen)], classes: usize) -> Head {
    const STEPS: i32 = 120;
    const PENALTY: f32 = 0.03;
    let features = images[0].1.x.len();
    let count = images.len() as f32;
    let mut mean = vec![0.0_f32; features];
    for (_, seen) in images {
        mean.iter_mut().zip(&seen.x).for_each(|(mean, x)| *mean += x / count);
    }
    let squares: f32 = (images.iter())
        .map(|(_, seen)| {
            seen.x
                .iter()
                .zip(&mean)
                .map(|(x, mean)| (x - mean).powi(2))
                .sum::<f32>()
        })
        .sum();
    let deviation = (squares / count / features as f32).sqrt().max(1e-9);
    let scaled: Vec<Vec<f32>> = (images.iter())
        .map(|(_, seen)| {
            seen.x
                .iter()
                .zip(&mean)
                .map(|(x, mean)| (x - mean) / deviation)
                .collect()
        })
        .collect();
    let mut head = Head {
        features,
        weight: vec![0.0; classes * features],
        bias: vec![0.0; classes],
    };
    let mut moments = vec![(0.0_f32, 0.0_f32); classes * (features + 1)];
    for step in 1..=STEPS {
        let mut gradient: Vec<f32> = head.weight.iter().map(|w| PENALTY * w).collect();
        gradient.extend(vec![0.0; classes]);
        for ((class, _), x) in images.iter().zip(&scaled) {
            let answer = logits(&head, x);
            for other in 0..classes {
                let probability = log_probability(&answer, other, 1.0).exp() as f32;
                let error = (probability - f32::from(u8::from(other == *class))) / count;
                let row = &mut gradient[other * features..(other + 1) * features];
                row.iter_mut().zip(x).for_each(|(gradient, x)| *gradient += error * x);
                gradient[classes * features + other] += error;
            }
        }
        let values = head.weight.iter_mut().chain(&mut head.bias);
        for ((value, gradient), (first, second)) in values.zip(&gradient).zip(&mut moments) {
            *first = 0.9 * *first + 0.1 * gradient;
            *second = 0.99 * *second + 0.01 * gradient * gradient;
            let (a, b) = (1.0 - 0.9_f32.powi(step), 1.0 - 0.99_f32.powi(step));
            *value -= 0.02 * (*first / a) / ((*second / b).sqrt() + 1e-8);
        }
    }
    for (row, bias) in head.weight.chunks_exact_mut(features).zip(&mut head.bias) {
        for weight in row.iter_mut() {
            *weight /= deviation;
        }
        *bias -= row.iter().zip(&mean).map(|(w, mean)| w * mean).sum::<f32>();
    }
    head
}
