//! Errors of quantisation.

use std::path::PathBuf;

use clr_onnx::OnnxError;
use clr_runtime::RuntimeError;
use clr_training::{TrainError, display_path};

use crate::loss::Loss;

/// Error of images, backbone or loss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantisationError {
    /// The backbone has integer weights.
    #[error(
        "the backbone `{name}` is quantised, expected float weights\nhint: quantise the float backbone that it was made from"
    )]
    Quantised {
        /// Name of the backbone.
        name: String,
    },
    /// There are too few images.
    #[error(
        "{got} readable images in {}, expected at least {expected}\nhint: add images of the kind that the device sees", listed(.folders)
    )]
    FewImages {
        /// The folders; empty if the images are not from files.
        folders: Vec<PathBuf>,
        /// Minimum number.
        expected: usize,
        /// Number of images that could be read.
        got: usize,
    },
    /// A folder has images, but none of a training split.
    #[error(
        "{}: expected images of a training split, got only those of other splits\nhint: name a folder with training images; test images would make later measurements too good", display_path(.folder)
    )]
    NoTraining {
        /// The folder.
        folder: PathBuf,
    },
    /// A value of the float backbone is NaN or infinite.
    #[error(
        "node `{node}`: expected finite values on the calibration images, got NaN or infinity\nhint: check the preprocessing: `clr inspect` shows it"
    )]
    NotFinite {
        /// The node.
        node: String,
    },
    /// The quantised backbone is too different from the float one.
    #[error(
        "{loss}; expected an error of at most {max_error}, with at most {max_float} of {convolutions} convolutions in float: int8 does not suit this network\nhint: calibrate with more images of the kind that the device sees; --force writes the backbone anyway"
    )]
    Loss {
        /// The measured loss.
        loss: Loss,
        /// The maximum relative error.
        max_error: f64,
        /// The maximum number of convolutions in float.
        max_float: usize,
        /// Number of convolutions.
        convolutions: usize,
    },
    /// The graph is not valid at an input size, or a folded weight is not finite.
    #[error(transparent)]
    Backbone(#[from] OnnxError),
    /// The runtime does not support an operation.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A folder of images cannot be read.
    #[error(transparent)]
    Data(#[from] TrainError),
}

/// Returns the folders in quotes.
fn listed(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders
        .iter()
        .map(|folder| format!("'{}'", display_path(folder)))
        .collect();
    if folders.is_empty() {
        "the calibration set".to_owned()
    } else {
        folders.join(", ")
    }
}
