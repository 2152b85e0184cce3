//! Options of a quantisation.

/// Options of [`quantise`](crate::quantise()).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QuantiseOptions {
    /// Maximum relative error of the features on held-out images.
    pub max_error: f64,
    /// Maximum fraction of the convolutions that are returned to float if the error is larger.
    pub max_float: f64,
    /// Whether to accept a larger error.
    pub force: bool,
}

impl Default for QuantiseOptions {
    fn default() -> Self {
        Self {
            max_error: 0.25,
            max_float: 0.25,
            force: false,
        }
    }
}

impl QuantiseOptions {
    /// Sets the maximum relative error of the features.
    #[must_use]
    pub fn with_max_error(mut self, max_error: f64) -> Self {
        self.max_error = max_error;
        self
    }

    /// Sets the maximum fraction of the convolutions in float.
    #[must_use]
    pub fn with_max_float(mut self, max_float: f64) -> Self {
        self.max_float = max_float;
        self
    }

    /// Sets whether to accept a larger error.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}
