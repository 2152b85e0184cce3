//! One frozen CNN, any number of kilobyte-sized tasks.
//!
//! A *backbone* is a convolutional network in an ONNX file, which never changes. A *task* is an *adapter*: a file of a
//! few kilobytes that turns the backbone into a classifier for its own classes. All adapters share the backbone in
//! memory, and switching between them reloads nothing.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use clr_vision::{Engine, TaskSet, adapters, backbones};
//!
//! let engine = Engine::load("lite0.onnx")?;
//! let tasks = TaskSet::new();
//! for file in ["birds.clr", "flowers.clr"] {
//!     let adapter = adapters::decode(&std::fs::read(file)?)?.adapter;
//!     tasks.insert(engine.prepare(&adapter)?);
//! }
//! let image = backbones::decode_image("photo.jpg".as_ref())?;
//! for task in tasks.all() {
//!     let classification = engine.classify(&task, &image)?;
//!     println!("{}: {:?}", task.task(), classification.best());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | crate | feature |
//! |---|---|---|
//! | the root | `clr-engine`: adapters on one backbone in memory, choosing the task | |
//! | [`adapters`] | `clr-adapters`: the adapter file, signatures | `update` for signing |
//! | [`backbones`] | `clr-onnx`: ONNX, images, preprocessing | `import` for checkpoints (on by default) |
#![cfg_attr(
    feature = "training",
    doc = "| [`training`] | `clr-training`: an adapter from a folder of images | `training` |"
)]
#![cfg_attr(
    not(feature = "training"),
    doc = "| `training` | `clr-training`: an adapter from a folder of images | `training` |"
)]
#![cfg_attr(
    feature = "update",
    doc = "| [`update`] | `clr-transfer`: adapters sent to devices | `update` |"
)]
#![cfg_attr(
    not(feature = "update"),
    doc = "| `update` | `clr-transfer`: adapters sent to devices | `update` |"
)]
//!
//! The examples: classify with several tasks, choose the task, train from a folder, push an update.
#![forbid(unsafe_code)]

#[doc(inline)]
pub use clr_engine::*;

/// Adapters: the file format, encoding, folding, signatures (crate `clr-adapters`).
pub use clr_adapters as adapters;
/// Backbones: ONNX in and out, image decoding, preprocessing (crate `clr-onnx`).
pub use clr_onnx as backbones;
/// Training of adapters from images (crate `clr-training`).
#[cfg(feature = "training")]
pub use clr_training as training;
/// Transfer of adapters to a device (crate `clr-transfer`).
#[cfg(feature = "update")]
pub use clr_transfer as update;

/// The example of the crate's README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

/// Compiles the library example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
