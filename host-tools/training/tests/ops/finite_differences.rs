//! Gradients compared with central differences.

use super::{cases, flat, gradients, values};
use candle_core::{Result, Tensor, Var};

const STEP: f32 = 5e-4;

/// `Σ y · weights` in double precision.
fn loss(y: &Tensor) -> f64 {
    let weights = values(y.elem_count(), 99);
    flat(y)
        .iter()
        .zip(weights)
        .map(|(&y, w)| f64::from(y) * f64::from(w))
        .sum()
}

#[test]
fn gradients_equal_finite_differences() -> Result<()> {
    for case in cases::all() {
        let y = (case.run)(&case.variables)?;
        let middle = loss(&y);
        let gradients = gradients(&y, &case.variables);
        for (index, gradient) in gradients.iter().enumerate() {
            let original = flat(case.variables[index].as_tensor());
            let at = |i: usize, delta: f32| -> Result<f64> {
                let mut moved = original.clone();
                moved[i] += delta;
                let moved = Tensor::from_vec(moved, case.variables[index].shape(), case.variables[index].device())?;
                let mut variables = case.variables.clone();
                variables[index] = Var::from_tensor(&moved)?;
                Ok(loss(&(case.run)(&variables)?))
            };
            let (mut wrong, mut size, mut skipped) = (0f64, 0f64, 0);
            for (i, &got) in gradient.iter().enumerate() {
                let (up, down) = (at(i, STEP)?, at(i, -STEP)?);
                let step = 2.0 * f64::from(STEP);
                // Skips points where the derivative jumps: at a kink of the activation, or where the position of the
                // maximum changes.
                if (up + down - 2.0 * middle).abs() > 0.05 * step {
                    skipped += 1;
                    continue;
                }
                let expected = (up - down) / step;
                wrong += (expected - f64::from(got)).powi(2);
                size += expected.powi(2);
            }
            assert!(
                skipped * 2 <= gradient.len(),
                "{}: {skipped} of {} at kinks",
                case.name,
                gradient.len()
            );
            let relative = (wrong / size.max(1e-12)).sqrt();
            assert!(
                relative < 1e-2,
                "{}, gradient {index}: relative error {relative:.1e}",
                case.name
            );
        }
    }
    Ok(())
}
