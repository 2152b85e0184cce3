//! Writing of a backbone as a standard ONNX model, and atomic writing of files.

mod atomic;
mod builder;
mod nodes;
mod norms;
mod quantised;
mod rows;
mod steps;
mod vectors;

pub(crate) use atomic::atomically;
pub(crate) use builder::{Builder, Dim, OPSET, int, ints, raw_floats, raw_integers};
pub(crate) use quantised::rounded_bias;
pub(crate) use rows::row_scale;

use crate::{
    Backbone, Shape,
    graph::{Graph, Op},
    proto::ModelProto,
};

/// Name of the image input in all written files.
pub(crate) const IMAGE: &str = "image";
/// The name of the output with a classifier.
pub(crate) const LOGITS: &str = "logits";
/// Name of the output of a backbone without a classifier.
pub(crate) const FEATURES: &str = "features";

/// Returns the batch dimension of inputs and outputs: open, unless an opaque step supports a single image only.
pub(crate) fn batch(graph: &Graph) -> Dim {
    let single = |op: &Op| matches!(op, Op::Opaque(step) if step.is_single());
    if graph.nodes.iter().any(|node| single(&node.op)) {
        Dim::Fixed(1)
    } else {
        Dim::Batch
    }
}

/// Returns the model of a backbone. Reading it gives an equal backbone.
pub(crate) fn backbone(backbone: &Backbone) -> ModelProto {
    let graph = backbone.graph();
    let preprocessing = backbone.preprocessing();
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    let mut builder = Builder::new(graph);
    for name in [IMAGE, LOGITS, FEATURES] {
        builder.reserve_value(name);
    }
    graph.nodes.iter().for_each(|node| builder.reserve_node(&node.name));
    let grids = graph.grids();
    builder.input(
        IMAGE,
        &[
            batch(graph),
            Dim::Fixed(graph.input_channels),
            Dim::Fixed(size[0]),
            Dim::Fixed(size[1]),
        ],
    );

    let mut values = vec![IMAGE.to_owned()];
    for (index, (node, shape)) in graph.nodes.iter().zip(backbone.shapes().iter().skip(1)).enumerate() {
        let is_features = graph.features.producer() == Some(index);
        let output = if is_features {
            FEATURES.to_owned()
        } else {
            builder.value(&node.name)
        };
        let inputs: Vec<&str> = node.inputs.iter().map(|input| values[input.0].as_str()).collect();
        let grid = node.inputs.first().and_then(|input| grids[input.0]);
        builder.graph_node(node, &inputs, &output, *shape, grid);
        values.push(output);
    }
    match backbone.classifier() {
        Some(head) => {
            let name = builder.helper("classifier");
            let shape = [head.classes(), head.features];
            match rows::integer_rows(shape, &head.weight).filter(|_| backbone.is_quantised()) {
                Some(weight) => builder.quantised_dense(&name, &weight, &head.bias, FEATURES, LOGITS),
                None => builder.dense(&name, (&shape, &head.weight), &head.bias, FEATURES, LOGITS),
            }
            builder.output(LOGITS, &[batch(graph), Dim::Fixed(head.classes())]);
        }
        None => builder.output(
            FEATURES,
            &[
                batch(graph),
                Dim::Fixed(Shape::Vector(backbone.feature_count()).elements()),
            ],
        ),
    }
    let (origins, classifier) = (backbone.preprocessing_origins(), backbone.classifier().is_some());
    builder.metadata(
        preprocessing,
        origins,
        backbone.labels(),
        classifier,
        backbone.bias_units(),
    );
    builder.finish(backbone.name())
}
