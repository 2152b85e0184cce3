//! Guarantees of the engine, one test module per guarantee.

mod answers;
mod auto;
mod background;
mod common;
#[cfg(target_os = "linux")]
mod endurance;
mod forgetting;
mod memory;
mod parity;
mod quantised;
mod reference_logits;
mod refusals;
mod scenes;
mod seeded;
mod several;
mod tasks;
