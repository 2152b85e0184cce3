//! Reports of a run: tables, CSV, plots and a page.

mod page;
mod plots;
mod summary;

pub use page::html;
pub use plots::{accuracy_over_size_svg, average_accuracy_svg, first_task_svg};
pub use summary::{MethodSummary, SeedResult, Spread, Summary};
