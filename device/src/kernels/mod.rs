//! What the plan's operations compute: f32 kernels over blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`.

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
mod pack;
mod pool;
mod rows;
mod site;
mod tile;
mod winograd;

pub(crate) use activation::{Smooth, activate, split};
pub(crate) use arena::Arena;
pub(crate) use elementwise::{Binary, affine, binary, prelu};
pub(crate) use head::dense;
pub(crate) use lanes::{LANES, Level};
pub(crate) use layout::{block, block_channels, concat, interleave, pad, unblock};
pub(crate) use pack::{Form, PackedConv};
pub(crate) use pool::{PoolKind, PoolShape, global_average, pool};
pub(crate) use rows::{AFFINE_PARAMETERS, Bounds};
pub(crate) use site::{Post, Site};

#[cfg(test)]
mod tests;
