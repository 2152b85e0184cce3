//! ~Both are generic over the adapter, so that loom can check every interleaving of their threads: => Both are generic
//! over the adapter type, so that loom can check every interleaving of their threads:
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
