//! Raw f32 kernels on NCHW slices, without candle types.
//!
//! Parallel over rayon's current pool, vectorised through [`simd`], and deterministic for any number of threads: every sum
//! is taken in an order that depends on the shapes alone.

#![expect(
    clippy::inline_always,
    reason = "vector code must be compiled with its caller's instruction set"
)]

pub(crate) mod act;
pub(crate) mod affine;
pub(crate) mod buffer;
pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod depthwise_any;
pub(crate) mod gather;
pub(crate) mod gemm;
pub(crate) mod norm;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod simd;
pub(crate) mod site_norm;
pub(crate) mod winograd;
mod winograd_tile;

#[cfg(test)]
mod tests;
