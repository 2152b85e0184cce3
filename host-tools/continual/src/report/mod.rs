//! Reports of a run: tables, CSV, plots and a page.

mod backbones;
mod backbones_page;
mod comparison;
mod page;
mod plots;
mod results;
mod summary;
mod tables;

pub use backbones::{Backbones, MethodOnBackbones};
pub use backbones_page::backbones_html;
pub use page::html;
pub use plots::{accuracy_over_size_svg, average_accuracy_svg, backbones_svg, first_task_svg};
pub use results::{Difference, MethodSummary, SeedResult, Spread};
pub use summary::Summary;
