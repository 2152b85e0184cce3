//! Proofs about switching, trying, confirming and taking back, through the public API alone.

mod device;
#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod life;
