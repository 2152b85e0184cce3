//! Quantised kernels: u8 values in blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`, and s8 weights.
//!
//! A byte q is the real value `(q − zero_point) · scale`. Sums of products are exact i32. What depends on the adapter is
//! f32, and is applied to the finished sums in registers: a scale and a bias per channel, or a CLR layer. The last step
//! rounds to nearest even. Therefore results are bit-identical on all instruction sets and for all numbers of threads.
//!
//! Lanes beyond the channels may have any content, and have no effect: their packed weights are zero.

mod clr;
mod conv;
mod dense;
mod depthwise;
mod elementwise;
mod lanes;
mod pool;
mod put;
mod reach;
mod target;
mod tile;
mod weights;
mod workspace;

pub use conv::Int8Conv;
pub use elementwise::{Summand, add_bytes, dequantize, lookup, quantize, quantize_image};
pub use pool::{Int8Mean, global_average_bytes, pool_bytes};
pub use target::{InnerRounding, Int8Output, Int8Sum};
pub use weights::{Int8Form, Int8Shape, Int8Weights, largest_sum};

#[cfg(test)]
mod tests;
