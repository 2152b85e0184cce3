//! Properties of learning, on small seeded networks and generated pictures.

mod body;
mod data;
mod fixtures;
mod learning;
mod network;
mod plots;
mod reference;
mod resume;
