//! Which adapter answers a frame: tasks that are switched between two frames, and adapters that are tried, confirmed and taken back.
//!
//! [`TaskSet`] has the resident adapters and the active one; [`ServingSet`] keeps what is known of each beside it. Neither knows what an
//! adapter is, so that every interleaving of their threads can be tried: `RUSTFLAGS="--cfg loom" cargo test --release -p clr-switching --test main`.
#![forbid(unsafe_code)]

mod serving;
mod sync;
mod tasks;

pub use serving::{AdapterInfo, ServingSet, SwitchGuard, UpdateGuard};
pub use tasks::{Resident, TaskSet};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
