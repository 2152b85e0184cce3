//! Folding of norms into the convolutions before them.

use crate::{
    Backbone, Conv, Graph, Node, Op, Tensor, ValueId,
    rewrite::{affine, scaled},
};

/// Returns the graph in which every norm after a convolution is part of its weights and its bias.
pub(super) fn fold_norms(backbone: &Backbone) -> Graph {
    let graph = backbone.graph();
    let mut folded = vec![None; graph.nodes.len()];
    let mut convolutions = vec![None; graph.nodes.len()];
    for site in backbone.sites() {
        convolutions[site.conv] = Some(site);
        if let Some(norm) = site.norm {
            folded[norm] = Some(site.conv);
        }
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    let mut values = vec![ValueId::IMAGE];
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(conv) = folded[index] {
            values.push(values[conv + 1]);
            continue;
        }
        let op = match (&node.op, convolutions[index]) {
            (Op::Conv(conv), Some(site)) if site.norm.is_some() => {
                let affine = affine(graph, site);
                let bias: Vec<f32> = affine.iter().map(|&[_, offset]| offset as f32).collect();
                Op::Conv(Conv {
                    weight: scaled(conv, affine.iter().map(|&[factor, _]| factor)),
                    bias: Some(Tensor::new([bias.len()], bias)),
                    ..conv.clone()
                })
            }
            (op, _) => op.clone(),
        };
        nodes.push(Node {
            name: node.name.clone(),
            op,
            inputs: node.inputs.iter().map(|input| values[input.0]).collect(),
        });
        values.push(ValueId(nodes.len()));
    }
    Graph {
        input_channels: graph.input_channels,
        features: values[graph.features.0],
        nodes,
    }
}
