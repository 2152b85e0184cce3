//! f32 kernels over blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`: what the engine's plan computes, and what learning on a
//! processor adds to it.
//!
//! Lengths come from a plan that was checked when it was made; every kernel asserts them once more, and panics on operands that do not
//! fit.

#![expect(clippy::missing_panics_doc, reason = "the crate's documentation says it for all")]
#![expect(
    clippy::inline_always,
    reason = "a kernel must become part of the function that has its instruction set"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over register arrays, unrolled by the compiler"
)]

mod activation;
mod arena;
mod depthwise;
mod dispatch;
mod elementwise;
mod head;
mod lanes;
mod layout;
mod learn;
mod pack;
mod parameters;
mod pool;
mod rows;

mod simd;
mod site;
mod tile;
mod winograd;

pub use activation::{Smooth, activate, split};
pub use arena::Arena;
pub use elementwise::{Binary, Broadcast, affine, binary, broadcast_binary, prelu};
pub use head::{dense, dense_gradient};
pub use layout::{block, block_channels, concat, interleave, pad, unblock};
pub use learn::{
    ConvGradient, accumulate, activation_gradient, affine_forward, affine_gradient, binary_gradient, clamp_gradient,
    clr_forward, clr_gradient, global_average_gradient, pool_gradient, prelu_gradient,
};
pub use pack::{Form, PackedConv};
pub use parameters::{pack_parameters, unpack_parameters};
pub use pool::{PoolKind, PoolShape, global_average, pool};
pub use rows::{AFFINE_PARAMETERS, Bounds};
pub use simd::{LANES, Level};
pub use site::{Post, Site};

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
