//! Minimisation of smooth functions by L-BFGS (Liu and Nocedal 1989).

use std::collections::VecDeque;

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Minimises a function by L-BFGS with a memory of 10, and backtracking to a sufficient decrease.
pub(crate) fn minimise(
    mut function: impl FnMut(&[f32]) -> (f64, Vec<f32>),
    start: Vec<f32>,
    iterations: usize,
) -> Vec<f32> {
    const MEMORY: usize = 10;
    let mut x = start;
    let (mut value, mut gradient) = function(&x);
    let mut pairs: VecDeque<(Vec<f32>, Vec<f32>, f64)> = VecDeque::with_capacity(MEMORY);
    for _ in 0..iterations {
        let mut direction = gradient.clone();
        let mut factors = Vec::with_capacity(pairs.len());
        for (step, change, product) in pairs.iter().rev() {
            let factor = dot(step, &direction) / product;
            direction
                .iter_mut()
                .zip(change)
                .for_each(|(d, y)| *d -= factor as f32 * y);
            factors.push(factor);
        }
        let scale = match pairs.back() {
            Some((_, change, product)) => product / dot(change, change),
            None => 1.0 / dot(&gradient, &gradient).sqrt().max(1.0),
        };
        for value in &mut direction {
            *value *= scale as f32;
        }
        for ((step, change, product), factor) in pairs.iter().zip(factors.into_iter().rev()) {
            let correction = factor - dot(change, &direction) / product;
            direction
                .iter_mut()
                .zip(step)
                .for_each(|(d, s)| *d += correction as f32 * s);
        }
        let slope = -dot(&gradient, &direction);
        if slope > -1e-12 {
            break;
        }
        let mut length = 1.0_f64;
        let accepted = loop {
            let candidate: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x - length as f32 * d).collect();
            let (new_value, new_gradient) = function(&candidate);
            if new_value <= value + 1e-4 * length * slope {
                break Some((candidate, new_value, new_gradient));
            }
            length *= 0.5;
            if length < 1e-6 {
                break None;
            }
        };
        let Some((candidate, new_value, new_gradient)) = accepted else {
            break;
        };
        let step: Vec<f32> = candidate.iter().zip(&x).map(|(new, old)| new - old).collect();
        let change: Vec<f32> = new_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        let product = dot(&step, &change);
        if product > 1e-12 {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((step, change, product));
        }
        let improvement = value - new_value;
        (x, value, gradient) = (candidate, new_value, new_gradient);
        if improvement < 1e-7 * value.abs().max(1e-3) {
            break;
        }
    }
    x
}
