//! Operators on an NVIDIA GPU.
//!
//! `kernels/` contains the kernels in a subset of C that both nvcc and a C compiler accept. The modules here launch
//! them, generic over a [`backend::Backend`]. On a GPU, the backend is candle's device. In the tests it is the same
//! kernels compiled for the CPU, so that everything except the launch itself is compared with the CPU operators on any
//! machine.
//!
//! Results are deterministic: one block per channel sums in a fixed order, and gradients are gathered, never scattered.

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
