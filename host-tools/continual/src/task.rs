//! A task of a sequence, and batches of its training images.

use candle_core::Tensor;
use clr_training::{Augmentation, Flip};

use crate::images::Images;

/// Augmentation of training images: that of `clr train`, without mirroring, which it decides per task.
pub const AUGMENTATION: Augmentation = Augmentation {
    flip: Flip::Off,
    ..Augmentation::MILD
};

/// A task of a sequence.
pub struct Task<'a> {
    /// Number of the task, from 0.
    pub index: usize,
    /// Number of its classes.
    pub classes: usize,
    /// Its training images.
    pub train: &'a Images,
    /// Seed of every random choice.
    pub seed: u64,
    /// Augmentation of training images.
    pub augmentation: &'a Augmentation,
}

/// A batch of training images of the current task.
pub struct Batch<'a> {
    /// Augmented and preprocessed images, `[N, 3, H, W]`.
    pub x: Tensor,
    /// Their classes.
    pub labels: Vec<u32>,
    /// Their indices in the task's training images.
    pub indices: &'a [usize],
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Number of the step in the task, from 0.
    pub step: u64,
}
