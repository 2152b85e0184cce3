//! Tests of the update protocol through the public API.

#[path = "../../format/tests/allocation.rs"]
mod allocation;
mod announcements;
mod commands;
mod cuts;
mod deadlines;
mod decoders;
mod door;
mod garbage;
mod hostile;
mod interleaved;
mod line;
mod memory_device;
mod noise;
mod rotation;
mod secure;
#[cfg(unix)]
mod transports;
