//! Proofs about the update protocol, through the public API alone.

#[path = "../../format/tests/allocation.rs"]
mod allocation;
mod commands;
mod cuts;
mod deadlines;
mod decoders;
mod garbage;
mod hostile;
mod interleaved;
mod line;
mod memory_device;
mod noise;
// Sockets, terminals and commands are the system's, which an interpreter does not have.
#[cfg(all(unix, not(miri)))]
mod transports;
