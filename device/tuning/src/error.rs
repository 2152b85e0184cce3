//! Errors of teaching and tuning.

use clr_adapters::{DecodeError, Digest, EncodeError};
use clr_learning::LearningError;

/// Error of teaching or tuning. No error changes the serving adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The task has no labelled image.
    #[error("task `{task}` has no labelled images\nhint: clr-device teach --task {task} --label <class> <image>…")]
    NoExamples {
        /// The task.
        task: String,
    },
    /// Some images have a label that the adapter does not have.
    #[error(
        "task `{task}` has images of class `{label}`, which the adapter does not have\nhint: teach the class first; tuning refines it"
    )]
    UnknownLabel {
        /// The task.
        task: String,
        /// The class.
        label: String,
    },
    /// The class is one of the publisher's.
    #[error(
        "class `{label}` of task `{task}` comes with the publisher's adapter; only classes that were taught on the device can be removed\nhint: train the task without it on a host"
    )]
    PublishersClass {
        /// The task.
        task: String,
        /// The class.
        label: String,
    },
    /// The adapter has no such class.
    #[error(
        "task `{task}` has no class `{label}`, only {known}\nhint: images of a class that was not taught are removed by `clr device examples remove {task} --label {label}`"
    )]
    NoSuchClass {
        /// The task.
        task: String,
        /// The class.
        label: String,
        /// The classes of the task.
        known: String,
    },
    /// Without the class, a single one would remain.
    #[error("task `{task}` would be left with a single class without `{label}`\nhint: clr device remove {task}")]
    LastClasses {
        /// The task.
        task: String,
        /// The class.
        label: String,
    },
    /// All images of the class are predicted as other classes.
    #[error(
        "class `{label}` looks like `{known}`: {as_known} of its {images} images are classified as `{known}`, and none can be classified as `{label}` without taking images from known classes\nhint: label them `{known}` if they show the same, or teach `{label}` with more and clearer images"
    )]
    LooksAlike {
        /// The new class.
        label: String,
        /// The known class that it resembles.
        known: String,
        /// Number of images predicted as that class.
        as_known: usize,
        /// All of the new class's images.
        images: usize,
    },
    /// None of a class's images can be decoded.
    #[error("none of the {images} images of class `{label}` can be decoded\nhint: add others")]
    NothingReadable {
        /// The class.
        label: String,
        /// The number of its images.
        images: usize,
    },
    /// A new task needs images of at least two classes.
    #[error("a new task needs images of at least 2 classes, got {got}")]
    TooFewClasses {
        /// Number of classes with images.
        got: usize,
    },
    /// The memory budget is too small for the smallest plan.
    #[error(
        "tuning needs at least {needed} bytes of memory ({resident} of them already in use), the budget is {budget}\nhint: set a budget of at least {needed}"
    )]
    Budget {
        /// The budget in bytes.
        budget: u64,
        /// Bytes that the smallest plan needs, including resident memory.
        needed: u64,
        /// Bytes already in use.
        resident: u64,
    },
    /// An option is outside its range.
    #[error("option {option}: expected {expected}, got {got}")]
    Option {
        /// Name of the option.
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
        /// Digest of the image.
        id: Digest,
        /// Class of the image; `unlabelled` for a frame.
        label: String,
        /// The reason.
        reason: String,
    },
    /// The run state could not be written, read or removed.
    #[error("cannot save the run state: {0}")]
    Checkpoint(String),
    /// The run was stopped; its state is saved.
    #[error("tuning was stopped at step {step} of {steps}\nhint: the same call resumes there")]
    Stopped {
        /// Number of finished steps.
        step: u32,
        /// Number of all steps.
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
        /// The requested number of threads.
        threads: usize,
        /// The reason.
        reason: String,
    },
    /// The network failed.
    #[error(transparent)]
    Learning(#[from] LearningError),
    /// The new adapter cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file of the new adapter cannot be decoded again.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub(crate) type Result<T, E = TuneError> = std::result::Result<T, E>;
