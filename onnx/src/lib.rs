//! Backbones: reading and writing ONNX, the canonical graph, its CLR sites, preprocessing, the digest and the
//! reprogramming rewrite.
#![forbid(unsafe_code)]

mod backbone;
mod background;
mod bias_units;
mod canonical;
#[cfg(feature = "import")]
mod checkpoint;
mod digest;
mod error;
mod file;
mod foreign;
mod graph;
mod import;
mod in_graph;
mod infer;
mod limits;
mod message;
mod metadata;
mod missing;
mod opaque;
mod preprocess;
mod program;
#[doc(hidden)]
pub mod proto;
mod quantisation;
mod quantise;
mod resize;
mod rewrite;
mod shape;
mod sites;
mod stages;
mod tensor;
mod validate;
mod write;

pub use backbone::Backbone;
pub use bias_units::BiasUnits;
#[cfg(feature = "import")]
pub use checkpoint::{
    Architecture, ImportError, ImportOptions, NumpyArray, TensorProblem, import, import_bytes, numpy_arrays,
    seeded_backbone,
};
pub use error::{AdapterMismatch, Missing, OnnxError};
pub use graph::{Activation, BatchNorm, Conv, Graph, Node, Op, PadMode, Padding, Pool, ValueId};
pub use image::RgbImage;
pub use import::ReadOptions;
pub use opaque::Opaque;
pub use preprocess::{
    DecodeLimits, DecodedImage, FILE_HEAD, FileKind, ImageDecoder, ImageError, ImageNotes, ImageView, MAX_IMAGE_PIXELS,
    Origin, Preprocess, PreprocessingOrigins, Preset, ReducedImage, Shrunk, StatedPreprocessing, decode_hostile,
    decode_image, decode_image_bytes, decode_image_bytes_for, decode_image_for, efficientnet_lite_preprocessing,
    has_further_images, imagenet_preprocessing, read_image_file, shrink_to_fit,
};
pub use program::{ConvStep, Program, Step, StepOp};
pub use quantisation::{ConvWeight, Quantisation, QuantisedTensor};
pub use quantise::{ConversionError, Quantiser, convert_adapter, image_grid, range_grid};
pub use resize::{Coordinates, Resize, ResizeMode, ResizeTarget, Rounding, Taps};
pub use rewrite::{
    HeadPart, OnnxModel, Parameter, ParameterSource, Reprogrammed, absolute_sites, aligned_sites, check_adapter,
    compacted, export, folded_norms, identity_adapter, merge, reprogram, with_all_sites,
};
pub use shape::Shape;
pub use sites::SiteInfo;
pub use stages::Stage;
pub use tensor::Tensor;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
