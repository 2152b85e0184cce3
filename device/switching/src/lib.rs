//! Resident and active adapters: switching between frames, trial, confirmation and reversion.
//!
//! [`TaskSet`] contains the resident adapters and the [`Selection`] of the active ones; [`ServingSet`] adds information
//! on each. All are generic over the adapter type, so that loom can check every interleaving of their threads:
//! `RUSTFLAGS="--cfg loom" cargo test --release -p clr-switching --test main`.
#![forbid(unsafe_code)]

mod resident;
mod selection;
mod serving;
mod sync;
mod tasks;

pub use resident::Resident;
pub use selection::{Selected, Selection};
pub use serving::{AdapterInfo, ServingSet, SwitchGuard, UpdateGuard};
pub use tasks::TaskSet;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
