//! Errors of training.

use std::path::PathBuf;

use clr_adapters::Recipe;

/// Error of data, options, network or resume file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A folder has too few images for a background.
    #[error("{}: {got} readable images, expected at least {expected}\nhint: add images, or leave the folder out", path.display())]
    FewImages {
        /// The folder.
        path: PathBuf,
        /// The minimum number.
        expected: usize,
        /// The number of images that could be read.
        got: usize,
    },
    /// Training would begin after the last site.
    #[error("training begins at site {got}, but the backbone has {sites} sites, from 0")]
    FirstSite {
        /// The given index of the first site.
        got: usize,
        /// Number of sites of the backbone.
        sites: usize,
    },
    /// A compact file cannot be as small as asked.
    #[error(
        "the adapter file of recipe {recipe} has at least {least} bytes, {bytes} were asked for\nhint: allow more bytes, leave out the class features, or use a recipe with fewer values (bn, linear)"
    )]
    Bytes {
        /// The recipe.
        recipe: Recipe,
        /// The maximum asked for.
        bytes: usize,
        /// Bytes with the largest steps.
        least: usize,
    },
    /// There are too few class folders.
    #[error(
        "{} contains {found} class folders, at least 2 are needed\nhint: create one folder per class, {}, or train/, val/ and test/ with such folders",
        path.display(), path.join("<class>/*.jpg").display()
    )]
    TooFewClasses {
        /// The folder searched.
        path: PathBuf,
        /// Number of class folders found.
        found: usize,
    },
    /// A class folder has no readable image.
    #[error(
        "class `{class}` has no readable image in {} ({unreadable} unreadable{reasons})\nhint: add PNG, JPEG, BMP, WebP, GIF, PNM or TIFF images, or remove the folder", path.display()
    )]
    EmptyClass {
        /// The class.
        class: String,
        /// Folder of the class.
        path: PathBuf,
        /// Number of files in the folder that are images, or should be images, but cannot be used.
        unreadable: usize,
        /// The reasons why these files cannot be used, after `: `; or empty.
        reasons: String,
    },
    /// The layout is ambiguous: folders may be splits or classes.
    #[error("{}: {reason}\nhint: {hint}", path.display())]
    UnclearSplits {
        /// The folder searched.
        path: PathBuf,
        /// The ambiguity.
        reason: String,
        /// The options that resolve the ambiguity.
        hint: String,
    },
    /// The name of a class folder is not UTF-8.
    #[error(
        "the name of the class folder '{folder}' is not UTF-8, but labels must be\nhint: rename it, such as with \
         `convmv -f latin1 -t utf8 --notest`"
    )]
    ClassName {
        /// The folder, with invalid bytes escaped.
        folder: String,
    },
    /// A class has too few images to be split.
    #[error(
        "class `{class}` has {found} readable image, a validation split needs at least 2\nhint: add images, or a separate folder val/"
    )]
    TooFewImages {
        /// The class.
        class: String,
        /// Number of readable images.
        found: usize,
    },
    /// `val/` or `test/` contains a class that `train/` does not have.
    #[error("{split}/ has class `{class}`, {train}/ has not{similar}\nhint: all splits need the same class folders")]
    UnknownClass {
        /// The folder of the validation or test split.
        split: String,
        /// The folder of the training split.
        train: String,
        /// The class.
        class: String,
        /// In brackets, a class that differs only in capitalisation or spaces; or empty.
        similar: String,
    },
    /// The data set does not have the split.
    #[error("the data set at {} has no {split} split", path.display())]
    NoSuchSplit {
        /// The data set.
        path: PathBuf,
        /// `validation` or `test`.
        split: &'static str,
    },
    /// An option is outside its range.
    #[error("option {option}: expected {expected}, got {got}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// The permitted values.
        expected: &'static str,
        /// The given value.
        got: String,
    },
    /// The data do not match the adapter.
    #[error("the data do not fit the adapter: {what}: expected {expected}, got {got}")]
    Mismatch {
        /// The property that differs.
        what: String,
        /// The value of the adapter.
        expected: String,
        /// The value of the data.
        got: String,
    },
    /// The network cannot execute a node of the graph.
    #[error("node `{node}` cannot be executed: {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// The reason.
        reason: String,
    },
    /// The loss became infinite or NaN.
    #[error("{recipe}: the loss is not finite in epoch {epoch}\nhint: lower the learning rates")]
    Diverged {
        /// The recipe being trained.
        recipe: Recipe,
        /// The epoch, from 1.
        epoch: usize,
    },
    /// The resume file is damaged.
    #[error("resume file {} is damaged: {reason}\nhint: delete it to start over", path.display())]
    DamagedResumeFile {
        /// The file.
        path: PathBuf,
        /// The defect.
        reason: &'static str,
    },
    /// The resume file belongs to other data, options or another backbone.
    #[error(
        "resume file {} belongs to a run with other data, options or backbone\nhint: use another folder, or delete it to start over", path.display()
    )]
    ForeignResumeFile {
        /// The file.
        path: PathBuf,
    },
    /// The observer asked to stop.
    #[error("training was stopped\nhint: repeat the command with the same resume folder to continue")]
    Stopped,
    /// A device's results differ from the CPU's.
    #[error(
        "the device's results differ from the CPU's: {operator} differs by {difference:.1e}\nhint: --device cpu; a newer driver may help"
    )]
    WrongDevice {
        /// The operator.
        operator: &'static str,
        /// The largest difference, relative to the largest value.
        difference: f32,
    },
    /// The tensor library failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The backbone's preprocessing or graph failed.
    #[error(transparent)]
    Backbone(#[from] clr_onnx::OnnxError),
    /// The adapter does not belong to the backbones between which it is converted.
    #[error(transparent)]
    Conversion(#[from] Box<clr_onnx::ConversionError>),
    /// The adapter could not be encoded.
    #[error(transparent)]
    Encode(#[from] clr_adapters::EncodeError),
    /// The file of the new adapter could not be decoded again.
    #[error(transparent)]
    Decode(#[from] clr_adapters::DecodeError),
    /// The network on the CPU failed, for example because the adapter is for another backbone, or an operator has no
    /// backward pass.
    #[error(transparent)]
    Learning(Box<clr_learning::LearningError>),
    /// The worker threads could not be started.
    #[error("cannot start {threads} worker threads: {reason}")]
    Threads {
        /// The requested number of threads.
        threads: usize,
        /// The reason.
        reason: String,
    },
    /// A plot could not be drawn.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}

/// `Result` with [`TrainError`].
pub(crate) type Result<T, E = TrainError> = std::result::Result<T, E>;

impl From<clr_learning::LearningError> for TrainError {
    fn from(error: clr_learning::LearningError) -> Self {
        Self::Learning(Box::new(error))
    }
}
