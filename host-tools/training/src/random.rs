//! Random streams addressed by what they are for, so that nothing depends on the order in which they are drawn.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// What a stream decides. The number is part of the stream's address and must not change between versions.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// The train/validation split of one class.
    Split = 1,
    /// The order of the training pictures in an epoch.
    Order = 2,
    /// The augmentation of one picture in one epoch.
    Augment = 3,
    /// Which pictures are mixed in one step, and how much.
    Mix = 6,
    /// The head before it has learned anything.
    Head = 5,
    /// Feature dropout in one step.
    Dropout = 4,
    /// Which pictures a tuning step on a device reads.
    Tune = 7,
    /// Stand-ins for the features of pictures that a device does not have.
    Imagine = 8,
}

/// The stream of `purpose` in (`seed`, `epoch`, `index`); equal arguments give equal streams on every platform.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
