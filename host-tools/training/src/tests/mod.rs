//! Properties of learning, tested on small seeded networks and generated images.

mod data;
mod fixtures;
#[cfg(feature = "cuda")]
mod gpu;
mod layout;
mod learning;
mod network;
mod operators;
mod plots;
mod reference;
mod resume;
mod rounding;
mod runtime;
