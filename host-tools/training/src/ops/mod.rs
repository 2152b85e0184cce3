//! Differentiable operators over a frozen backbone in candle: on the CPU in plain candle, the slow, obvious reference
//! that every kernel is compared with; on an NVIDIA GPU, with the feature `cuda`, custom operators around the crate's
//! CUDA kernels.
//!
//! All maps are NCHW f32. Frozen weights are no variables, so that no gradient is ever stored for them.

mod activation;
mod arguments;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod norm;
mod plain;
mod pool;
mod scale;
mod site;
pub(crate) mod sizes;

pub use activation::{activation, add_activation, prelu};
pub use conv::FrozenConv;
pub use norm::{batch_norm, clr_batch_norm};
pub use pool::{average_pool, global_average_pool, max_pool};
pub use scale::scale_shift;
pub use site::{clr_depthwise, clr_site};
