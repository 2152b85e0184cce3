//! What a backbone is: ONNX in and out, the canonical graph, its CLR sites, preprocessing, the digest and the
//! reprogramming rewrite.
#![forbid(unsafe_code)]

mod graph;
mod sites;
mod tensor;

pub use graph::{Activation, BatchNorm, Conv, Graph, Node, Op, Padding, Pool, ValueId};
pub use sites::SiteInfo;
pub use tensor::Tensor;
