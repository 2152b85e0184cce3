//! Reports of a run: tables, CSV, plots and a page.

mod backbones;
mod page;
mod plots;
mod summary;
mod tables;

pub use backbones::{Backbones, MethodOnBackbones};
pub use page::html;
pub use plots::{accuracy_over_size_svg, average_accuracy_svg, backbones_svg, first_task_svg};
pub use summary::{Difference, MethodSummary, SeedResult, Spread, Summary};
