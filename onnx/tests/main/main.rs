//! Reading, writing and rewriting backbones, on small models built by hand.

mod channels_last;
mod decoding_memory;
mod digest;
mod half_precision;
mod hostile;
mod operators;
mod refusals;
mod resampling;
mod rewrite;
mod round_trip;
mod shape_arithmetic;
mod shapes;
mod spellings;
mod support;
