//! The operators on an NVIDIA GPU.
//!
//! `kernels/` holds the kernels in a part of C that nvcc and a C compiler both take. The modules here are the host's
//! side: which kernels an operator launches, with what, generic over a [`backend::Backend`]. On a GPU that is candle's
//! device; in the tests it is the same kernels compiled for the CPU, so that everything but the launch itself is
//! compared with the CPU operators on any machine.
//!
//! Everything is deterministic: sums are taken by one block per channel in a fixed order, gradients are collected,
//! never scattered.

pub(crate) mod arguments;
pub(crate) mod backend;
pub(crate) mod conv;
#[cfg(feature = "cuda")]
pub(crate) mod device;
pub(crate) mod elementwise;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod site;

#[cfg(all(test, target_os = "linux"))]
mod tests;
