//! What the engine and the daemon promise, one module per promise.

mod answers;
mod auto;
mod common;
#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
mod endurance;
mod forgetting;
mod memory;
mod parity;
mod reference_logits;
mod refusals;
mod tasks;
