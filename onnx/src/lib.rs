//! What a backbone is: ONNX in and out, the canonical graph, its CLR sites, preprocessing, the digest and the
//! reprogramming rewrite.
#![forbid(unsafe_code)]

mod graph;
mod preprocess;
mod sites;
mod tensor;

pub use graph::{Activation, BatchNorm, Conv, Graph, Node, Op, Padding, Pool, ValueId};
pub use image::RgbImage;
pub use preprocess::{
    ImageError, MAX_IMAGE_PIXELS, Preprocess, decode_image, decode_image_bytes, efficientnet_lite_preprocessing,
    imagenet_preprocessing,
};
pub use sites::SiteInfo;
pub use tensor::Tensor;
