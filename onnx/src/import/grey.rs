//! Networks that read grey images: a fixed conversion from RGB is added before them.

use std::collections::HashSet;

use clr_adapters::Preprocessing;

use super::order;
use crate::{
    Backbone, Tensor,
    graph::{Conv, Graph, Node, Op, Padding, ValueId},
};

/// Weights of red, green and blue in grey (ITU-R BT.601, as in Pillow's `convert("L")`).
const SHARES: [f32; 3] = [0.299, 0.587, 0.114];

/// Note for the user on such a network.
pub(super) const NOTE: &str = "it reads one channel: images become grey in front of it, as 0.299 R + 0.587 G + 0.114 B";

/// Adds a 1×1 convolution from RGB to grey before a graph that reads one channel.
pub(super) fn convert(graph: Graph) -> Graph {
    let mut taken: HashSet<String> = graph.nodes.iter().map(|node| node.name.clone()).collect();
    let conversion = Node {
        name: order::free(&mut taken, "grey".to_owned()),
        op: Op::Conv(Conv {
            weight: Tensor::new([1, 3, 1, 1], SHARES).into(),
            bias: None,
            stride: [1, 1],
            dilation: [1, 1],
            group: 1,
            padding: Padding::Explicit([0; 4]),
        }),
        inputs: vec![ValueId::IMAGE],
    };
    // The convolution's output takes the place of the image, so all values move by one.
    let after = |value: ValueId| ValueId(value.0 + 1);
    let rest = graph.nodes.into_iter().map(|node| Node {
        inputs: node.inputs.into_iter().map(after).collect(),
        ..node
    });
    Graph {
        input_channels: 3,
        nodes: std::iter::once(conversion).chain(rest).collect(),
        features: after(graph.features),
    }
}

/// Returns the default preprocessing of such a network: values in 0–1, because the `ImageNet` normalisation is defined
/// for colours.
pub(super) fn default_preprocessing(height: u32, width: u32) -> Preprocessing {
    Preprocessing {
        mean: [0.0; 3],
        std: [255.0; 3],
        ..Backbone::default_preprocessing(height, width)
    }
}
