//! What can go wrong while a device learns.

use clr_adapters::{DecodeError, Digest, EncodeError};
use clr_learning::LearningError;

/// An error; the adapter that serves is not touched by any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// No image to learn from.
    #[error(
        "task `{task}` has no labelled images to learn from\nhint: clr-device teach --task {task} --label <class> <image>…"
    )]
    NoExamples {
        /// The task.
        task: String,
    },
    /// Images of a class that the adapter does not have.
    #[error(
        "task `{task}` has no class `{label}`, of which there are images\nhint: teach the class first: it then answers at once, and tuning refines it"
    )]
    UnknownLabel {
        /// The task.
        task: String,
        /// The class.
        label: String,
    },
    /// A class whose own images are all answered as others.
    #[error(
        "class `{label}` looks like `{known}`: {as_known} of its {images} images are answered `{known}`, and none could be answered `{label}` without taking images from the classes known before\nhint: file them under `{known}` if they show the same, or teach `{label}` with more and clearer images"
    )]
    LooksAlike {
        /// The new class.
        label: String,
        /// The class that it looks like.
        known: String,
        /// Images answered as that class.
        as_known: usize,
        /// All of the new class's images.
        images: usize,
    },
    /// None of a class's images can be decoded.
    #[error("none of the {images} images of class `{label}` can be decoded\nhint: file others")]
    NothingReadable {
        /// The class.
        label: String,
        /// How many there are.
        images: usize,
    },
    /// A new task needs images of at least two classes.
    #[error("a new task needs images of at least 2 classes, got {got}")]
    TooFewClasses {
        /// Classes with images.
        got: usize,
    },
    /// The budget is too small for anything.
    #[error(
        "the least that tuning takes is {needed} bytes of memory ({resident} of them are in use already), the budget is {budget}\nhint: a budget of at least {needed}"
    )]
    Budget {
        /// The budget in bytes.
        budget: u64,
        /// What the least plan would take, with what is resident.
        needed: u64,
        /// Already in use.
        resident: u64,
    },
    /// An option outside of its range.
    #[error("option {option}: expected {expected}, got {got}")]
    Option {
        /// Its name.
        option: &'static str,
        /// The permitted values.
        expected: &'static str,
        /// The given value.
        got: String,
    },
    /// The source of images failed.
    #[error("cannot get the labelled images: {0}")]
    Examples(String),
    /// An image that cannot be decoded.
    #[error("image {} of class `{label}` cannot be decoded: {reason}\nhint: remove it", id.short())]
    Image {
        /// Its digest.
        id: Digest,
        /// Its class, `unlabelled` for a frame.
        label: String,
        /// Why.
        reason: String,
    },
    /// The checkpoint could not be written, read or removed.
    #[error("cannot keep the state of the run: {0}")]
    Checkpoint(String),
    /// Asked to stop; the checkpoint has the state.
    #[error("tuning was stopped at step {step} of {steps}\nhint: the same call goes on from there")]
    Stopped {
        /// Finished steps.
        step: u32,
        /// All steps.
        steps: u32,
    },
    /// The loss is infinite or NaN.
    #[error("the loss is not finite at step {step}\nhint: lower rates")]
    Diverged {
        /// The step.
        step: u32,
    },
    /// The worker threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        reason: String,
    },
    /// The network failed.
    #[error(transparent)]
    Learning(#[from] LearningError),
    /// The new adapter cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The new adapter's own file cannot be read back.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub(crate) type Result<T, E = TuneError> = std::result::Result<T, E>;
