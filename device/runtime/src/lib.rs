//! Executor of a lowered backbone: inference, training steps and memory estimates.
//!
//! An [`Executable`] is created once from a [`Program`](clr_onnx::Program) for one input size, and serves every
//! adapter: the parameters of the CLR sites are an argument of each call ([`SiteParameters`]). Values are stored in
//! blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`. In training, one image runs on one thread; in inference, it uses
//! the threads of the caller's pool. Results do not depend on the number of threads.
//!
//! Three passes traverse the same steps: inference, forward and backward with a tape, and the memory estimate. The
//! estimate takes and returns the same buffers as a training step, but only counts their lengths.
//!
//! Each operator is one file in `operators/`, with its forward pass, its backward pass and the values that the backward
//! pass reads.
#![forbid(unsafe_code)]

mod batch;
mod compile;
mod convolution;
mod error;
mod estimate;
mod executable;
mod inference;
mod integer;
mod memory;
mod operators;
mod parameters;
mod pass;
mod prefix;
mod shared;
mod tape;
mod training;
mod weights;

pub use batch::{BatchGradient, BatchSite, BatchTape, ChannelStatistics, FoldedNorm, NormOfSite};
pub use error::RuntimeError;
pub use estimate::Footprint;
pub use executable::{Executable, ExecutableOptions};
pub use inference::Traced;
pub use parameters::SiteParameters;
pub use pass::{FeaturePass, Intermediates};
pub use prefix::PrefixActivations;
pub use tape::Tape;
pub use weights::PackedWeights;

#[cfg(test)]
mod tests;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
