//! What an adapter is: one task for a frozen backbone, its file format, folding, quantising and limits.
//!
//! The crate is `no_std` with `alloc`; the byte map stands in `docs/adapter-format.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adapter;
mod digest;
mod preprocessing;
mod recipe;

pub use adapter::{Adapter, Canary, Head, Header, Metrics, Provenance, Site, SiteWeights};
pub use digest::Digest;
pub use preprocessing::{ChannelOrder, Filter, Fit, Preprocessing};
pub use recipe::{Recipe, SiteKind};
