//! Decoded images, and batches of them.

mod images;
mod loader;

pub use images::SplitImages;
pub(crate) use loader::{Loading, for_each_batch, prepare_batch, shuffled};
