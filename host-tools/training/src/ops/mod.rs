//! Differentiable operators over a frozen backbone in candle.
//!
//! On the CPU they are implemented in plain candle, as the reference for every kernel. On an NVIDIA GPU, with the
//! feature `cuda`, they are custom operators around the crate's CUDA kernels.
//!
//! All maps are NCHW f32. Frozen weights are not variables, so no gradient is stored for them.

mod activation;
mod arguments;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod grid;
mod norm;
mod plain;
mod pool;
mod scale;
mod site;

pub use activation::{activation, add_activation, prelu};
pub use conv::{ConvOptions, FrozenConv, conv};
pub use grid::round_to_grid;
pub use norm::{batch_norm, clr_batch_norm};
pub use pool::{average_pool, global_average_pool, max_pool};
pub use scale::scale_shift;
pub use site::{clr_depthwise, clr_site};
