//! History of a run, with one record per epoch, written as JSON lines.

use clr_adapters::Recipe;
use serde::{Deserialize, Serialize};

/// Record of an epoch. Epoch 0 is the network before joint training (the fitted head on the unmodified backbone).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The recipe being trained.
    pub recipe: Recipe,
    /// Number of the epoch, from 1; 0 is the state before training.
    pub epoch: usize,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// Mean training loss over the epoch, with label smoothing and augmentation; `None` without steps.
    pub train_loss: Option<f32>,
    /// Training accuracy over the epoch on augmented images, as a fraction.
    pub train_accuracy: Option<f32>,
    /// Validation cross-entropy, without smoothing.
    pub validation_loss: f32,
    /// Validation accuracy, as a fraction.
    pub validation_accuracy: f32,
    /// The head's learning rate at the epoch's end.
    pub rate: f64,
    /// Seconds since the training of this recipe began in this process.
    pub seconds: f64,
    /// Whether this epoch is the best so far.
    pub best: bool,
}
