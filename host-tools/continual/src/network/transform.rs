//! Hooks around the convolutions of a forward pass.

use candle_core::{Result, Tensor};

/// Changes of a forward pass. `conv` is the index of a convolution.
pub trait Transform {
    /// Returns the weight that is used in place of a convolution's. A detached tensor gets no gradient.
    ///
    /// # Errors
    /// Returns candle's error.
    fn weight(&self, conv: usize, weight: &Tensor) -> Result<Tensor> {
        let _ = conv;
        Ok(weight.clone())
    }

    /// Returns what follows the convolution in place of its output, before the norm.
    ///
    /// # Errors
    /// Returns candle's error.
    fn output(&self, conv: usize, y: Tensor, mode: super::Mode) -> Result<Tensor> {
        let _ = (conv, mode);
        Ok(y)
    }

    /// Called with the input of each convolution.
    ///
    /// # Errors
    /// Returns candle's error.
    fn input(&self, conv: usize, x: &Tensor, mode: super::Mode) -> Result<()> {
        let _ = (conv, x, mode);
        Ok(())
    }
}

/// No change.
pub struct NoTransform;

impl Transform for NoTransform {}
