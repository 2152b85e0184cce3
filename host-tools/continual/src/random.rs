//! Random streams, one per seed, purpose, task, epoch and index, so that results do not depend on the order of draws.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

/// Purpose of a stream. Its number is part of the stream's identity.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// The order of a task's training images in an epoch.
    Order = 1,
    /// The augmentation of one image.
    Augment = 2,
    /// The images that a buffer gives for a step.
    Draw = 3,
    /// The place in a buffer that an image is offered.
    Offer = 4,
    /// The signs of a context.
    Context = 5,
    /// The constants of a random backbone.
    Constants = 6,
    /// The first scores of a mask.
    Scores = 7,
    /// The first values of a head.
    Head = 8,
    /// The images of a Fisher information.
    Fisher = 9,
    /// The order of the tasks.
    Tasks = 10,
    /// The validation and test images of a task that has more than are used.
    HeldOut = 11,
}

/// Returns the stream of `purpose` for a task, an epoch or layer, and an image, step or offer.
pub fn stream(seed: u64, purpose: Purpose, task: usize, epoch: usize, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64 | (task as u64) << 32, epoch as u64, index];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
