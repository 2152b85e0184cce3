//! Reading, writing and rewriting backbones, on small models built by hand.

mod decoding_memory;
mod digest;
mod dynamic_size;
mod endings;
mod external_data;
mod foreign_files;
mod functions;
mod hostile;
mod operators;
mod outputs;
mod refusals;
mod resampling;
mod rewrite;
mod round_trip;
mod shapes;
mod sparse;
mod support;
mod unsupported_kinds;
