//! ~Simulation of power cuts on a disk in memory, and fault injection into any storage. => Simulation of power cuts on
//! an in-memory disk, and fault injection for any storage.

mod access;
mod disk;
mod faults;
mod tree;

pub use disk::{Disk, PowerCut};
pub use faults::{Fault, Faults, Moment, Operation};
