//! Reading, writing and rewriting backbones, on small models built by hand.

mod channel_selection;
mod channels_last;
mod decoding_memory;
mod digest;
mod dynamic_size;
mod endings;
mod external_data;
mod foreign_files;
mod functions;
mod grey;
mod half_precision;
mod hostile;
mod normalisation;
mod opaque;
mod operators;
mod outputs;
mod refusals;
mod rewrite;
mod round_trip;
mod shape_arithmetic;
mod shapes;
mod sparse;
mod spellings;
mod support;
mod unsupported_kinds;
mod written_out;
