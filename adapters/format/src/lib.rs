//! What an adapter is: one task for a frozen backbone, its file format, folding, quantising and limits.
//!
//! The crate is `no_std` with `alloc`; the byte map stands in `docs/adapter-format.md`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adapter;
mod codec;
mod decode;
mod digest;
mod encode;
mod envelope;
mod error;
pub mod folding;
mod invalid;
mod limits;
mod preprocessing;
mod recipe;
mod section;
mod validate;
mod wire;

pub use adapter::{Adapter, Canary, Head, Header, Metrics, Provenance, Site, SiteWeights};
pub use codec::CodeFault;
pub use decode::{Decoded, decode, decode_with};
pub use digest::Digest;
pub use encode::{encode, quantised};
pub use error::{DecodeError, EncodeError, HeaderFault};
pub use invalid::InvalidAdapter;
pub use limits::Limits;
pub use preprocessing::{ChannelOrder, Filter, Fit, Preprocessing};
pub use recipe::{Recipe, SiteKind};
pub use section::{Encoding, SectionEncoding, SectionInfo, SectionKind};
