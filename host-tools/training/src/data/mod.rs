//! Data sets: scan of folders, layout, splits, checks, decoded images and batches.

mod dataset;
pub mod inspect;
mod layout;
mod scan;
mod spacing;
mod split_names;
mod survey;
mod warning;

pub use dataset::{Dataset, Sample, Split, SplitOptions};
pub use layout::LayoutOptions;
pub use scan::{Outcome, Scan, ScanLine, ScanReport, display_path};
pub use spacing::evenly_spaced;
pub use survey::Survey;
pub use warning::{Unreadable, Warning};
