//! Data sets: scan of folders, layout, splits, checks, decoded images and batches.

mod dataset;
pub mod inspect;
mod layout;
mod loader;
mod images;
mod scan;
mod split_names;
mod survey;
mod warning;

pub use dataset::{Dataset, Sample, Split, SplitOptions};
pub use layout::LayoutOptions;
pub use images::SplitImages;
pub use scan::{Outcome, Scan, ScanLine, ScanReport, display_path};
pub use survey::Survey;
pub use warning::{Unreadable, Warning};

pub(crate) use loader::{Loading, for_each_batch, prepare_batch, shuffled};
