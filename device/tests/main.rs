//! What the engine promises, one module per promise.

mod answers;
mod auto;
mod common;
mod forgetting;
mod memory;
mod parity;
mod reference_logits;
mod refusals;
mod tasks;
