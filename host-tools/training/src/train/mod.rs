//! Training run: frozen features, head, joint training, selection of the recipe, encoding.

mod canaries;
mod candidates;
mod choose;
mod class_features;
mod conversion_loss;
mod convert;
mod epoch;
mod finish;
mod joint;
mod prepare;
mod profile;
mod resume_file;
mod rounding;

use std::time::Instant;

use clr_adapters::{Adapter, Recipe};
use clr_onnx::Backbone;
use serde::Serialize;

use crate::{
    Evaluation, Record, Warning,
    data::Dataset,
    error::{Result, TrainError},
    observer::Observer,
    options::TrainOptions,
};
use joint::{Outcome, joint};
use prepare::Prepared;

pub use conversion_loss::ConversionLoss;
pub use convert::{Converted, conversion_loss, convert};

/// Maximum side of a canary image in pixels.
const CANARY_SIDE: u32 = 32;
/// Number of canaries in a file.
const CANARIES: usize = 2;

/// A finished run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The adapter in full precision, with a complete header.
    pub adapter: Adapter,
    /// The adapter decoded from `bytes`.
    pub quantised: Adapter,
    /// The adapter file.
    pub bytes: Vec<u8>,
    /// Evaluation of the validation split with full-precision weights.
    pub validation: Evaluation,
    /// Evaluation of the validation split with the file's quantised weights.
    pub quantised_validation: Evaluation,
    /// Evaluation of the test split with the file's quantised weights, if the split exists and was requested.
    pub test: Option<Evaluation>,
    /// The records of every epoch of every trained recipe.
    pub history: Vec<Record>,
    /// The compared recipes, those with the fewest parameters first.
    pub candidates: Vec<RecipeResult>,
    /// Some validation images with the logits of the file's quantised weights, for a comparison with another engine.
    pub parity: Vec<ParitySample>,
    /// Warnings about the data.
    pub warnings: Vec<Warning>,
    /// The chosen penalty of the head.
    pub penalty: f64,
    /// Whether augmentation mirrored the training images.
    pub mirrored: bool,
    /// Duration of the run in seconds.
    pub seconds: f64,
    /// Peak resident memory of the process in bytes, if the system reports it.
    pub peak_memory: Option<u64>,
}

/// Result of one recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecipeResult {
    /// The recipe.
    pub recipe: Recipe,
    /// Validation accuracy in full precision, as a fraction.
    pub accuracy: f32,
    /// Validation cross-entropy.
    pub loss: f32,
    /// Size of the recipe's adapter file in bytes.
    pub bytes: usize,
    /// The adapter file of this recipe, without metrics and canaries. Only the selected recipe is trained with rounded
    /// values for a compact file.
    #[serde(skip)]
    pub file: Vec<u8>,
    /// Duration of training in this process, in seconds.
    pub seconds: f64,
    /// Whether this recipe was selected.
    pub chosen: bool,
}

/// A preprocessed image with the logits of the training network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParitySample {
    /// The preprocessed image, `[3, height, width]`.
    pub input: Vec<f32>,
    /// The logits, `[classes]`.
    pub logits: Vec<f32>,
}

/// Learns an adapter for `backbone` from `dataset`.
///
/// The validation split selects the head's penalty, the epoch and the recipe. The test split is evaluated once at the
/// end. On the same machine, equal data, options and thread count give equal bytes, even if the run was stopped and
/// resumed.
///
/// # Errors
/// [`TrainError::InvalidOption`] or [`TrainError::FirstSite`] if an option is outside its range;
/// [`TrainError::Stopped`] if the observer stops the run; [`TrainError::Diverged`] if the loss is not finite; another
/// [`TrainError`] if the data, the network or a file fails.
pub fn train(
    backbone: &Backbone,
    dataset: &Dataset,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    options.schedule.validate()?;
    let (got, sites) = (options.first_site, backbone.sites().len());
    if got > 0 && got >= sites {
        return Err(TrainError::FirstSite { got, sites });
    }
    crate::with_threads(options.threads(), || run(backbone, dataset, options, observer))
}

fn run(backbone: &Backbone, dataset: &Dataset, options: &TrainOptions, observer: &mut dyn Observer) -> Result<Trained> {
    let start = Instant::now();
    let prepared = Prepared::new(backbone, dataset, options, observer)?;
    let candidates = candidates::candidates(&options.recipe, backbone);
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(candidates.len());
    for recipe in candidates {
        let outcome = if recipe == Recipe::Linear {
            prepared.linear(observer)?
        } else {
            joint(&prepared, recipe, observer)?
        };
        outcomes.push(outcome);
    }
    finish::finish(prepared, dataset, outcomes, start, observer)
}
