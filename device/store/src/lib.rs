//! ~examples/<task>/<sha256>      labelled images, named by the image's bytes => examples/<task>/<sha256>      labelled
//! images, named by the SHA-256 of the image
#![forbid(unsafe_code)]

mod atomic;
mod checkpoints;
mod copies;
mod directory;
mod error;
mod examples;
mod incoming;
mod names;
mod options;
mod record;
mod sealed;
#[cfg(feature = "simulation")]
pub mod simulation;
mod staging;
mod state;
mod storage;
mod store;
mod unavailable;
mod verify;
mod written;

pub use directory::Directory;
pub use error::{Damage, StoreError};
pub use examples::{AddOutcome, StoredExample};
pub use options::{Caps, StoreOptions};
pub use state::{OnTrial, Progress, Reversion, StoredAdapter, StoredTask};
pub use storage::{Entry, EntryKind, LockError, Storage, StorageFile, StorageLock};
pub use store::{Installed, ServingAdapter, StartOutcome, Store};
pub use unavailable::Unavailable;
pub use verify::{Problem, ProblemKind, Recovery, Report};
pub use written::Written;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
