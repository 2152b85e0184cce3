//! Tests of switching, trials, confirmation and reversion through the public API.

mod device;
#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod life;
