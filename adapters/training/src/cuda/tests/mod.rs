//! The CUDA kernels, compiled for the CPU from the same source, against the CPU operators.

mod compiled;
mod operators;
