//! Adapters, one task each for a frozen backbone: file format, signatures, folding, quantisation and limits.
//!
//! The crate is `no_std` with `alloc`. Byte map: `docs/reference/adapter-format.md`.
//!
//! ```
//! use clr_adapters::{Encoding, decode, encode};
//! # use clr_adapters::*;
//! # let preprocessing = Preprocessing {
//! #     height: 8,
//! #     width: 8,
//! #     fit: Fit::Stretch,
//! #     filter: Filter::Bilinear,
//! #     channel_order: ChannelOrder::Rgb,
//! #     mean: [0.0; 3],
//! #     std: [255.0; 3],
//! # };
//! # let backbone = Digest([0; 32]);
//! # let header = Header::new("birds", vec!["wren".into()], backbone, preprocessing, Provenance::Imported);
//! # let head = Head { features: 2, weight: vec![1.0, 2.0], bias: vec![0.5] };
//! # let adapter = Adapter { header, sites: vec![], head };
//! let file: Vec<u8> = encode(&adapter, Encoding::F32)?;
//! let decoded = decode(&file)?;
//! assert_eq!(decoded.adapter, adapter);
//! assert!(decode(&file[1..]).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "key-files")]
extern crate std;

mod adapter;
mod background;
mod class_features;
mod codec;
mod compact;
mod decode;
#[cfg(feature = "delta")]
pub mod delta;
mod digest;
mod encode;
mod envelope;
mod error;
mod folded_norm;
pub mod folding;
mod invalid;
mod key;
#[cfg(feature = "key-files")]
mod key_file;
mod limits;
mod noise;
mod pattern;
mod preprocessing;
mod profile;
mod recipe;
mod refusal;
mod release;
mod remove_class;
mod section;
mod signature;
mod signing;
mod step_size;
mod text;
mod trailer;
mod triangle;
mod trust;
mod validate;
mod wire;

pub use adapter::{Adapter, Calibration, Canary, Head, Header, Metrics, Provenance, Site, SiteWeights, Trial};
pub use background::{Background, BackgroundError, BackgroundId, Moments};
pub use class_features::ClassFeatures;
pub use codec::CodeFault;
pub use decode::{Decoded, decode, decode_with};
pub use digest::Digest;
pub use encode::{encode, quantised};
pub use error::{DecodeError, EncodeError, HeaderFault};
pub use folded_norm::FoldedNorm;
pub use invalid::InvalidAdapter;
pub use key::{KeyError, PublicKey, SecretKey};
#[cfg(feature = "key-files")]
pub use key_file::{KeyFileError, generate_key, read_public_key, read_secret_key, write_public_key, write_secret_key};
pub use limits::Limits;
pub use noise::noise_image;
pub use preprocessing::{ChannelOrder, Filter, Fit, Preprocessing};
pub use profile::{HeadEnergy, OwnScores, Profile, RatioScore, Ratios, TaughtPoints, distance_ood_score, sketch};
pub use recipe::{Recipe, SiteKind};
pub use refusal::Refusal;
pub use release::{Release, SignedRelease};
pub use section::{Encoding, SectionEncoding, SectionInfo, SectionKind};
pub use signature::{Signature, SignerClass};
pub use signing::{Terms, sign, sign_release, signature};
pub use step_size::{SiteSteps, StepSize, Steps};
pub use text::{TextError, text_from_bytes};
pub use trust::{Admitted, MinimumVersion, Policy, Trust, TrustedKey, admit, admit_release};
pub use validate::{AUTO, check_task_name};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
