//! f32 kernels for values in blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`, for inference and for training on a
//! CPU, and int8 kernels for inference.
//!
//! The int8 kernels have u8 values in the same layout, and their results are bit-identical on all CPUs.
//!
//! If C is not a multiple of 16, the last block has lanes beyond the channels. Kernels that work lane by lane compute
//! these lanes too, so their content is arbitrary. Kernels that mix channels do not read them, and write zeros there.
//!
//! Lengths come from a plan that was checked when it was created. Every kernel asserts them again, and panics if its
//! operands do not fit.

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
mod band;
mod channel_map;
mod channels;
mod depthwise;
mod elementwise;
mod grid;
mod head;
mod int8;
mod layout;
mod learn;
mod norm;
mod pack;
mod parameters;
mod pixels;
mod pool;
mod rows;

mod fused;
mod simd;
mod tile;
mod winograd;

pub use activation::{Smooth, activate, split};
pub use arena::Arena;
pub use channel_map::ChannelMap;
pub use channels::{channel_conv, channel_conv_outputs, softmax_groups};
pub use elementwise::{Binary, Broadcast, affine, binary, broadcast_binary, prelu};
pub use fused::{ConvImage, Epilogue, FusedConv, winograd_scratch};
pub use grid::round_to_grid;
pub use head::{dense, dense_gradient};
pub use int8::{
    InnerRounding, Int8Conv, Int8Form, Int8Mean, Int8Output, Int8Shape, Int8Sum, Int8Weights, Summand, add_bytes,
    dequantize, global_average_bytes, largest_sum, lookup, pool_bytes, quantize, quantize_image,
};
pub use layout::{block, block_channels, block_planes, interleave, pad, unblock};
pub use learn::{
    ConvGradient, accumulate, activation_gradient, affine_forward, affine_gradient, binary_gradient,
    channel_conv_gradient, clamp_gradient, clr_forward, clr_gradient, global_average_gradient, pool_gradient,
    prelu_gradient, softmax_groups_gradient,
};
pub use norm::{
    GroupNorm, LayerNorm, ResponseNorm, global_response_norm, global_response_norm_gradient, group_norm,
    group_norm_gradient, layer_norm, layer_norm_gradient,
};
pub use pack::{Form, PackedConv};
pub use parameters::{pack_parameters, unpack_parameters};
pub use pixels::PixelMap;
pub use pool::{PoolKind, PoolShape, global_average, pool};
pub use rows::{AFFINE_PARAMETERS, Bounds};
pub use simd::{Isa, LANES, int8::Rounding};
pub use winograd::Winograd;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
