//! Activations and their derivatives compared with their definitions in double precision, for every instruction set of
//! this machine.

use super::{Smooth, activate, exp};
use crate::{
    activation_gradient,
    simd::{Isa, Kernel, Simd, Vector, dispatch, vectors_mut},
};

const ALL: [Smooth; 10] = [
    Smooth::LeakyRelu { alpha: 0.1 },
    Smooth::Sigmoid,
    Smooth::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Smooth::HardSwish,
    Smooth::Silu,
    Smooth::Tanh,
    Smooth::Gelu,
    Smooth::GeluTanh,
    Smooth::Elu { alpha: 1.3 },
    Smooth::Mish,
];

/// Returns the error function: by its series near zero, and by a continued fraction of 1 − erf elsewhere.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 3.0 {
        let mut term = z;
        let mut sum = z;
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..200).rev().fold(z, |below, n| z + f64::from(n) / 2.0 / below);
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

fn value(smooth: Smooth, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match smooth {
        Smooth::LeakyRelu { alpha } => x.max(0.0) + x.min(0.0) * f64::from(alpha),
        Smooth::Sigmoid => sigmoid(x),
        Smooth::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Smooth::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Smooth::Silu => x * sigmoid(x),
        Smooth::Tanh => x.tanh(),
        Smooth::Gelu => x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Smooth::GeluTanh => {
            x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Smooth::Elu { alpha } => x.max(0.0) + x.min(0.0).exp_m1() * f64::from(alpha),
        Smooth::Mish => x * x.exp().ln_1p().tanh(),
    }
}

/// Returns values from −30 to 30, denser near zero. Their number is not a multiple of sixteen.
fn inputs() -> Vec<f32> {
    let count = if cfg!(miri) { 60 } else { 6001 };
    (0..count)
        .map(|step| 2.0 * step as f32 / (count - 1) as f32 - 1.0)
        .flat_map(|x| [30.0 * x, 3.0 * x, 0.01 * x])
        .collect()
}

#[test]
fn every_activation_equals_its_definition() {
    let x = inputs();
    for isa in Isa::available() {
        for smooth in ALL {
            let mut y = x.clone();
            activate(isa, &mut y, smooth);
            for (&x, &y) in x.iter().zip(&y) {
                let want = value(smooth, f64::from(x));
                let scale = want.abs().max(f64::from(x).abs());
                let close = (f64::from(y) - want).abs() <= 4e-7 * scale;
                assert!(close, "{smooth:?} at {x}, {isa:?}: expected {want}, got {y}");
            }
        }
    }
}

#[test]
fn every_activations_gradient_is_its_slope() {
    let kinks = [0.0, -3.0, 3.0, -2.5, 2.5];
    let smooth_at = |x: &f32| kinks.iter().all(|kink| (x - kink).abs() > 1e-4);
    let x: Vec<f32> = inputs().into_iter().filter(smooth_at).collect();
    let dy: Vec<f32> = x.iter().map(|x| 1.5 - 0.01 * x).collect();
    for isa in Isa::available() {
        for smooth in ALL {
            let mut dx = dy.clone();
            activation_gradient(isa, smooth, &x, &mut dx);
            for ((&x, &dx), &dy) in x.iter().zip(&dx).zip(&dy) {
                const STEP: f64 = 1e-5;
                let x = f64::from(x);
                let slope = (value(smooth, x + STEP) - value(smooth, x - STEP)) / (2.0 * STEP);
                let want = slope * f64::from(dy);
                let close = (f64::from(dx) - want).abs() <= 3e-6 * (1.0 + x.abs() / 10.0);
                assert!(close, "{smooth:?} at {x}, {isa:?}: expected {want}, got {dx}");
            }
        }
    }
}

#[test]
fn nan_and_huge_inputs_are_visible_in_the_result() {
    for isa in Isa::available() {
        for smooth in ALL {
            let mut values = [f32::NAN; 17];
            activate(isa, &mut values, smooth);
            assert!(values.iter().all(|value| value.is_nan()), "{smooth:?} {isa:?}");
            let mut values = [-1e30, -1e4, -200.0, 200.0, 1e4, 1e30];
            let x = values;
            activate(isa, &mut values, smooth);
            let mut dx = [1.0; 6];
            activation_gradient(isa, smooth, &x, &mut dx);
            for (at, &x) in x.iter().enumerate() {
                let want = value(smooth, f64::from(x));
                assert!(
                    (f64::from(values[at]) - want).abs() <= 1e-6 * want.abs() + 1e-6,
                    "{smooth:?} at {x}, {isa:?}: expected {want}, got {}",
                    values[at]
                );
                assert!(dx[at].is_finite(), "{smooth:?}'s derivative at {x}, {isa:?}");
            }
        }
    }
}

/// `e^x` in place.
struct Exp<'a>(&'a mut [f32]);

impl Kernel for Exp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for values in vectors_mut(self.0) {
            exp(simd, simd.load(values)).store(values);
        }
    }
}

#[test]
fn the_exponential_is_within_two_units_in_the_last_place_and_monotone() {
    for isa in Isa::available() {
        let mut before = 0.0;
        // Values around the points where the reduction changes its power of two, and coarse steps between them.
        let edges = (-125..=125).map(|n| (f64::from(n) + 0.5) * std::f64::consts::LN_2);
        for edge in edges.step_by(if cfg!(miri) { 50 } else { 1 }) {
            let middle = (edge as f32).to_bits() as i32;
            let sign = if edge < 0.0 { -1 } else { 1 };
            let near = (-64..64).map(|step| f32::from_bits((middle + sign * step) as u32));
            let far = (0..64).map(|step| (edge + 0.01 + 0.67 * f64::from(step) / 64.0) as f32);
            let x: Vec<f32> = near.chain(far).filter(|x| x.abs() < 87.0).collect();
            let mut y = x.clone();
            y.resize(y.len().next_multiple_of(16), 0.0);
            dispatch(isa, Exp(&mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).exp();
                let unit = f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
                assert!(
                    (f64::from(y) - want).abs() <= 2.0 * unit,
                    "e^{x} at {isa:?}: {want} {y}"
                );
                assert!(y >= before, "e^{x} at {isa:?} is smaller than before");
                before = y;
            }
        }
    }
}
