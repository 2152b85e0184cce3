//! Properties of switching, trials, confirmation and reversion, by the public API.

mod device;
#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod life;
