//! Reading, writing and rewriting backbones, on small models built by hand.

mod decoding_memory;
mod digest;
mod hostile;
mod normalisation;
mod operators;
mod refusals;
mod resampling;
mod rewrite;
mod round_trip;
mod shapes;
mod support;
