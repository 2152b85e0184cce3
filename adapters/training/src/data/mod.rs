//! Pictures: which ones, in which split, decoded once, augmented ahead of the step.

mod augment;
mod dataset;
mod loader;
mod pictures;
mod scan;
mod warning;

pub use augment::{Augmentation, Flip};
pub use dataset::{Dataset, Sample, Split, SplitOptions};
pub use pictures::Pictures;
pub use warning::{Unreadable, Warning};

pub(crate) use augment::mirror;
pub(crate) use loader::{Batch, Loading, for_each_batch, prepare_batch, shuffled};
