//! Simulation of power cuts on an in-memory disk, and fault injection for any storage.
//!
//! ```
//! use std::sync::Arc;
//!
//! use clr_store::{
//!     Storage,
//!     simulation::{Disk, PowerCut},
//! };
//!
//! let disk = Arc::new(Disk::new());
//! let mut file = disk.create("kept")?;
//! file.write(0, b"whole")?;
//! file.sync()?;
//! disk.sync_directory("")?;
//! disk.create("lost")?;
//! let after = disk.power_cut(PowerCut::UnsyncedLost, 0);
//! assert_eq!(after.read("kept", 0, 5)?, b"whole");
//! assert!(after.length("lost").is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

mod access;
mod disk;
mod faults;
mod tree;

pub use disk::{Disk, PowerCut};
pub use faults::{Fault, Faults, Moment, Operation};
