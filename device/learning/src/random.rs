//! Random streams identified by their purpose, so that results do not depend on the order in which numbers are drawn.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Purpose of a stream. Its number is part of the stream's identity and must not change between versions.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// The train/validation split of one class.
    Split = 1,
    /// The order of the training images in an epoch.
    Order = 2,
    /// The augmentation of one image in one epoch.
    Augment = 3,
    /// The weights of images that are mixed in one step.
    Mix = 6,
    /// The initial head.
    Head = 5,
    /// Feature dropout in one step.
    Dropout = 4,
    /// The images of a tuning step on a device.
    Tune = 7,
    /// Directions of the spread within classes, and the images of simulated teachings.
    Directions = 8,
    /// The images from which quantisation takes its ranges.
    Calibrate = 9,
}

/// Returns the stream of `purpose` for (`seed`, `epoch`, `index`). Equal arguments give equal streams on every
/// platform.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
