//! Differentiable operators for training over a frozen backbone: candle custom ops around the crate's own kernels.
//!
//! All maps are NCHW f32, on the CPU or, with the feature `cuda`, on an NVIDIA GPU. Frozen weights live inside the operator, so that no gradient is ever computed for them, and the
//! backward passes skip every argument that does not track gradients. Results do not depend on the number of threads.

mod activation;
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
mod norm;
mod pool;
mod scale;
mod site;
mod storage;

pub use activation::{activation, add_activation, prelu};
pub use conv::FrozenConv;
pub use norm::{BatchStats, batch_norm, clr_batch_norm};
pub use pool::{average_pool, global_average_pool, max_pool};
pub use scale::scale_shift;
pub use site::{clr_depthwise, clr_site};
