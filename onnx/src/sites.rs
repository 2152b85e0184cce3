//! CLR sites of a backbone: every convolution, with the norm and activation that follow it.

use crate::graph::{Graph, Op, ValueId};

/// A convolution that an adapter may reprogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteInfo {
    /// The convolution's name.
    pub name: String,
    /// Index of the convolution among the graph's nodes.
    pub conv: usize,
    /// Number of output channels.
    pub channels: usize,
    /// Numbers of rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Index of the `BatchNorm` that is the convolution's only reader, if there is one.
    pub norm: Option<usize>,
    /// Index of the activation that is the only reader of the norm (without a norm, of the convolution), if there is
    /// one.
    pub activation: Option<usize>,
}

/// Returns the readers of each value, by [`ValueId`]. A node that reads a value twice is listed twice.
pub(crate) fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.nodes.len() + 1];
    for (index, node) in graph.nodes.iter().enumerate() {
        for &ValueId(value) in &node.inputs {
            readers[value].push(index);
        }
    }
    readers
}

/// Returns the only reader of `value`; `None` if there are several, or the value is the features.
pub(crate) fn only_reader(graph: &Graph, readers: &[Vec<usize>], value: ValueId) -> Option<usize> {
    match readers[value.0][..] {
        [reader] if value != graph.features => Some(reader),
        _ => None,
    }
}

/// Returns every convolution of a valid graph, in order.
pub(crate) fn find_sites(graph: &Graph) -> Vec<SiteInfo> {
    let readers = readers(graph);
    let after = |node: usize| only_reader(graph, &readers, ValueId::of_node(node));
    let sites = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
        let Op::Conv(conv) = &node.op else { return None };
        let norm = after(index).filter(|&reader| matches!(graph.nodes[reader].op, Op::BatchNorm(_)));
        let activation =
            after(norm.unwrap_or(index)).filter(|&reader| matches!(graph.nodes[reader].op, Op::Activation(_)));
        Some(SiteInfo {
            name: node.name.clone(),
            conv: index,
            channels: conv.channels(),
            kernel: conv.kernel(),
            norm,
            activation,
        })
    });
    sites.collect()
}
