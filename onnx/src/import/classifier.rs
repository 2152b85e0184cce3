//! Splits the last classifier off.

use clr_adapters::Head;

use crate::{
    OnnxError, Shape, canonical,
    graph::{Conv, Graph, Node, Op, ValueId},
    shape, validate,
};

/// The graph up to the features, and the classifier that read them: a last dense layer, or a last 1×1 convolution of a
/// 1×1 map. `known` is what the file's metadata says about there being a classifier.
pub(super) fn split(
    raw: Graph,
    size: [usize; 2],
    known: Option<bool>,
    notes: &mut Vec<String>,
) -> Result<(Graph, Option<Head>), OnnxError> {
    validate::graph(&raw)?;
    let mut graph = canonical::canonical(raw);
    let head = if known == Some(false) {
        None
    } else {
        cut(&mut graph, size)
    };
    if head.is_none() && known.is_none() {
        notes.push("the model does not end in a classifier: its output is taken as the features".to_owned());
    }
    let shapes = shapes(&graph, size)?;
    if let Shape::Map([channels, height, width]) = shapes[graph.features.0] {
        if [height, width] != [1, 1] {
            notes.push(format!(
                "the features [N, {channels}, {height}, {width}] are averaged over height and width"
            ));
            append(&mut graph, "features.pool", Op::GlobalAveragePool);
        }
        append(&mut graph, "features.flatten", Op::Flatten);
    }
    Ok((graph, head))
}

fn shapes(graph: &Graph, size: [usize; 2]) -> Result<Vec<Shape>, OnnxError> {
    shape::infer_all(graph, size).map_err(|(index, reason)| OnnxError::Node {
        node: graph
            .nodes
            .get(index)
            .map_or_else(String::new, |node| node.name.clone()),
        reason,
    })
}

/// Moves the features in front of the classifier.
fn cut(graph: &mut Graph, size: [usize; 2]) -> Option<Head> {
    let last = graph.features.producer()?;
    // The canonical form has no node behind the features, but another one could still read them.
    if graph.nodes.iter().any(|node| node.inputs.contains(&graph.features)) {
        return None;
    }
    match &graph.nodes[last].op {
        Op::Dense { weight, bias } => {
            let head = Head {
                features: weight.shape()[1],
                weight: weight.data().to_vec(),
                bias: bias.data().to_vec(),
            };
            graph.features = graph.nodes[last].inputs[0];
            Some(head)
        }
        Op::Flatten => {
            let producer = graph.nodes[last].inputs[0].producer()?;
            let head = pointwise(graph, producer, size)?;
            // The flattening now reads what the convolution read.
            let inputs = graph.nodes[producer].inputs.clone();
            graph.nodes[last].inputs = inputs;
            Some(head)
        }
        Op::Conv(_) => {
            let head = pointwise(graph, last, size)?;
            graph.features = graph.nodes[last].inputs[0];
            Some(head)
        }
        _ => None,
    }
}

/// The convolution at `index` as a dense layer, if it is 1×1 on a 1×1 map and nothing else reads it.
fn pointwise(graph: &Graph, index: usize, size: [usize; 2]) -> Option<Head> {
    let Op::Conv(conv @ Conv { group: 1, .. }) = &graph.nodes[index].op else {
        return None;
    };
    let readers = graph
        .nodes
        .iter()
        .filter(|node| node.inputs.contains(&ValueId::of_node(index)))
        .count();
    let shapes = shape::infer_all(graph, size).ok()?;
    let (input, output) = (shapes[graph.nodes[index].inputs[0].0], shapes[index + 1]);
    let unpadded = conv.padding.resolve([1, 1], [1, 1], conv.stride, conv.dilation) == [0; 4];
    if !unpadded
        || conv.kernel() != [1, 1]
        || readers > 1
        || input.spatial() != Some([1, 1])
        || output.spatial() != Some([1, 1])
    {
        return None;
    }
    let bias = conv
        .bias
        .as_ref()
        .map_or_else(|| vec![0.0; conv.channels()], |bias| bias.data().to_vec());
    Some(Head {
        features: input.channels(),
        weight: conv.weight.data().to_vec(),
        bias,
    })
}

fn append(graph: &mut Graph, wanted: &str, op: Op) {
    let mut name = wanted.to_owned();
    while graph.nodes.iter().any(|node| node.name == name) {
        name.push('_');
    }
    graph.nodes.push(Node {
        name,
        op,
        inputs: vec![graph.features],
    });
    graph.features = ValueId(graph.nodes.len());
}
