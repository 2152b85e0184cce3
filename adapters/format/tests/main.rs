//! Tests of the adapter file through the public API.

mod allocation;
mod background;
mod compact;
#[cfg(feature = "delta")]
mod compact_delta;
#[cfg(feature = "delta")]
mod delta;
mod folding;
mod golden;
mod hostile;
mod profile;
mod publishers;
mod release;
mod remove_class;
mod round_trip;
mod sample;
mod signing;
mod size_budget;
mod validation;
