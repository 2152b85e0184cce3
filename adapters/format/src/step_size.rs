//! Quantisation steps of format version 3.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::codec::{codes::LARGEST_CODE, steps};

/// A quantisation step: about `2^(exponent / 4)`, from a table of four steps per octave, so that every platform computes
/// the same bits. A value with this step is a multiple of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepSize(pub i8);

impl StepSize {
    /// Returns the largest step that is at most `size`, within the range of steps (2⁻³² to about 2³¹·⁷⁵).
    #[must_use]
    pub fn at_most(size: f64) -> Self {
        let octaves = if size > 0.0 {
            4.0 * libm::log2(size)
        } else {
            f64::from(i8::MIN)
        };
        let mut exponent = libm::floor(octaves).clamp(f64::from(i8::MIN), f64::from(i8::MAX)) as i8;
        // The table and the logarithm round differently.
        while exponent < i8::MAX && Self(exponent + 1).size() <= size {
            exponent += 1;
        }
        while exponent > i8::MIN && Self(exponent).size() > size {
            exponent -= 1;
        }
        Self(exponent)
    }

    /// Returns the size of the step.
    #[must_use]
    pub fn size(self) -> f64 {
        steps::step(i16::from(self.0))
    }

    /// Returns the step that is `quarters` quarters of an octave larger, within the range of steps.
    #[must_use]
    pub fn larger(self, quarters: i8) -> Self {
        Self(self.0.saturating_add(quarters))
    }

    /// Returns the code of a value: the nearest integer number of steps, halves away from zero. `None` if it is beyond
    /// ±2²².
    #[must_use]
    pub fn code(self, value: f32) -> Option<i32> {
        let code = libm::round(f64::from(value) / self.size());
        (code.abs() <= f64::from(LARGEST_CODE)).then_some(code as i32)
    }

    /// Returns the value of a code.
    #[must_use]
    pub fn value(self, code: i32) -> f32 {
        (f64::from(code) * self.size()) as f32
    }

    /// Returns the multiple of the step that is nearest to `value`.
    #[must_use]
    pub fn nearest(self, value: f32) -> f32 {
        let code = libm::round(f64::from(value) / self.size());
        (code * self.size()) as f32
    }

    /// Returns the nearest multiples of the step.
    #[must_use]
    pub fn round(self, values: &[f32]) -> Vec<f32> {
        values.iter().map(|&value| self.nearest(value)).collect()
    }
}

/// Steps of a site whose values are differences from the backbone's own norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SiteSteps {
    /// Of the kernel or scale.
    pub weights: StepSize,
    /// Of the bias.
    pub bias: StepSize,
}

/// Steps of the values that do not belong to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Steps {
    /// Of the head's weight.
    pub head: StepSize,
    /// Of the feature profile's mean.
    pub profile_mean: StepSize,
    /// Of the feature profile's diagonal and factor.
    pub profile_factor: StepSize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_largest_that_is_not_larger_than_asked() {
        for size in [1e-9, 0.001, 0.06, 0.25, 0.7, 1.0, 3.0, 1e9] {
            let step = StepSize::at_most(size);
            assert!(step.size() <= size && step.larger(1).size() > size, "{size} {step:?}");
        }
        assert_eq!(
            (StepSize::at_most(0.0), StepSize::at_most(1e30)),
            (StepSize(i8::MIN), StepSize(i8::MAX))
        );
        assert_eq!(StepSize::at_most(0.25).size(), 0.25);
    }

    #[test]
    fn values_of_codes_have_these_codes() {
        for exponent in [i8::MIN, -37, -16, 0, 5, i8::MAX] {
            for code in [0, 1, -1, 2, 77, -4095, LARGEST_CODE, -LARGEST_CODE] {
                let value = StepSize(exponent).value(code);
                assert_eq!(StepSize(exponent).code(value), Some(code));
                assert_eq!(StepSize(exponent).nearest(value).to_bits(), value.to_bits());
            }
        }
        assert_eq!(StepSize(0).code(1e9), None);
    }
}
