//! What the engine promises, one module per promise.

mod answers;
mod auto;
mod common;
#[cfg(target_os = "linux")]
mod endurance;
mod forgetting;
mod memory;
mod parity;
mod reference_logits;
mod refusals;
mod scenes;
mod seeded;
mod tasks;
