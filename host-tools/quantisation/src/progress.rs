//! Progress of a quantisation.

/// Stage of a quantisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Images are decoded.
    Read,
    /// The float backbone runs over the images.
    Calibrate,
    /// The biases are corrected.
    Correct,
    /// The error is measured on the held-out images.
    Measure,
    /// The layers that stay in float are selected.
    Select,
}

/// Progress of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Number of finished units: images, or layers for [`Stage::Select`].
    pub done: usize,
    /// Number of units of the stage.
    pub total: usize,
}

/// Callback for progress, which is called on the calling thread.
pub(crate) type Observer<'a> = dyn FnMut(Progress) + 'a;
