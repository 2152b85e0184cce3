//! Separation of a network into its features and the classifier at its end.
//!
//! | the network ends in | features | classifier |
//! |---|---|---|
//! | a dense layer | the layer's input | the layer's rows |
//! | a convolution over its entire input | its input, flattened | its kernels |
//! | a 1×1 convolution, then a mean over height and width | the mean of its input | its kernels, because both are linear |
//! | one of these with one unit, Sigmoid | as above | two classes, of which the first has logit 0 |
//! | one of these with one unit | as above | none, because it may be a regression, unless the caller states otherwise |
//! | one of these and another activation, or windows and then a mean | as above, if it is certainly a classifier | none, because it is not linear |
//! | anything else | the output itself | none |

use clr_adapters::Head;

use super::{ending::Ending, head};
use crate::{
    OnnxError, Shape, canonical,
    graph::{Activation, Conv, Graph, Node, Op, Pool, ValueId},
    infer, validate,
};

/// The maximum number of nodes after the last layer.
const MAX_AFTER: usize = 64;

/// Evidence for a classifier, in addition to the graph itself.
pub(super) struct Evidence<'a> {
    /// Whether the file has a classifier, according to metadata that this library wrote; `None` without such metadata.
    pub(super) known: Option<bool>,
    /// The operators after the logits that were left out.
    pub(super) ending: &'a Ending<'a>,
    /// Returns whether a node or its weights have a name that frameworks use for classifiers.
    pub(super) named: &'a dyn Fn(&str) -> bool,
    /// Whether the caller states that one unit without a Sigmoid means two classes.
    pub(super) two_classes: bool,
}

/// Splits the graph into its part up to the features and the classifier that reads them.
pub(super) fn split(
    raw: Graph,
    size: [usize; 2],
    evidence: &Evidence<'_>,
    notes: &mut Vec<String>,
) -> Result<(Graph, Option<Head>), OnnxError> {
    validate::graph(&raw)?;
    let mut graph = canonical::canonical(raw);
    let cut = match evidence.known {
        Some(false) => End::Features,
        _ => Tail::find(&graph, size)?.map_or(End::Features, |tail| tail.cut(&mut graph, evidence, notes)),
    };
    if matches!(cut, End::Features) && evidence.known.is_none() {
        notes.push(match evidence.ending.operators.first() {
            Some(operator) => format!(
                "the model ends in {operator}, but what that reads is no dense layer: it is taken as the features"
            ),
            None => "the model does not end in a classifier: its output is taken as the features".to_owned(),
        });
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
    let head = match cut {
        End::Classifier(head) => Some(head),
        End::Features | End::Dropped => None,
    };
    Ok((graph, head))
}

fn shapes(graph: &Graph, size: [usize; 2]) -> Result<Vec<Shape>, OnnxError> {
    infer::infer_all(graph, size).map_err(|(index, reason)| OnnxError::Node {
        node: graph
            .nodes
            .get(index)
            .map_or_else(String::new, |node| node.name.clone()),
        reason,
    })
}

/// The kind of a network's end.
enum End {
    /// Features: nothing is to be cut off.
    Features,
    /// A classifier that was cut off and discarded.
    Dropped,
    /// A classifier that was cut off and kept.
    Classifier(Head),
}

/// The last layer with weights, and the nodes after it, which have no weights or only per-channel ones.
struct Tail {
    layer: usize,
    /// Nodes from the layer to the output.
    after: Vec<usize>,
    shapes: Vec<Shape>,
}

/// Form of the layer as a function of the features.
enum Form {
    /// The layer reads a vector.
    Dense,
    /// The layer reads an entire map at once.
    Entire,
    /// The layer reads every pixel of a map, and the mean is taken afterwards.
    Mean,
    /// The layer reads windows of a map, and the mean is taken afterwards. The result is not linear in the mean of the
    /// map.
    Window,
}

impl Tail {
    /// Returns the tail of a canonical graph: a chain of nodes in which each is read only by the next.
    fn find(graph: &Graph, size: [usize; 2]) -> Result<Option<Self>, OnnxError> {
        let mut after = Vec::new();
        let mut value = graph.features;
        while after.len() < MAX_AFTER {
            let readers = graph.nodes.iter().filter(|node| node.inputs.contains(&value)).count();
            let (Some(index), true) = (value.producer(), readers <= usize::from(value != graph.features)) else {
                return Ok(None);
            };
            match &graph.nodes[index].op {
                Op::Dense { .. } | Op::Conv(_) => {
                    after.reverse();
                    let shapes = shapes(graph, size)?;
                    return Ok(Some(Self {
                        layer: index,
                        after,
                        shapes,
                    }));
                }
                Op::Flatten
                | Op::Unflatten
                | Op::GlobalAveragePool
                | Op::AveragePool(_)
                | Op::Activation(_)
                | Op::BatchNorm(_)
                | Op::FakeQuantise(_)
                | Op::ChannelAffine { .. } => {
                    after.push(index);
                    value = graph.nodes[index].inputs[0];
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Makes the layer's input the features, if the layer is a classifier.
    fn cut(self, graph: &mut Graph, evidence: &Evidence<'_>, notes: &mut Vec<String>) -> End {
        let name = graph.nodes[self.layer].name.clone();
        let mut activations =
            self.after
                .iter()
                .enumerate()
                .filter_map(|(place, &index)| match &graph.nodes[index].op {
                    Op::Activation(activation) => Some((place, *activation)),
                    _ => None,
                });
        let (last, more) = (activations.next(), activations.next());
        // A Sigmoid before the mean is part of the network.
        let sigmoid = more.is_none()
            && last.is_some_and(|(place, kind)| kind == Activation::Sigmoid && self.mean(graph) < Some(place));
        let form = self.form(graph);
        let dense = matches!(form, Some(Form::Dense));
        let sure = evidence.ending.decides() || (!dense && (evidence.named)(&name) && form.is_some());
        let affine = |&index: &usize| matches!(graph.nodes[index].op, Op::BatchNorm(_) | Op::ChannelAffine { .. });
        let linear = last.is_none() || sigmoid;
        let head = match &form {
            Some(Form::Window) | None => None,
            Some(_) if linear && (dense || sure || !self.after.iter().any(affine)) => self.head(graph),
            _ => None,
        };
        let Some(form) = form.filter(|_| head.is_some() || sure) else {
            return End::Features;
        };
        let units = self.units(graph);
        let rounded = (self.after.iter()).any(|&index| matches!(graph.nodes[index].op, Op::FakeQuantise(_)));
        self.move_features(graph, &form);
        let Some(head) = head else {
            let reason = match last {
                Some((_, activation)) => format!("is followed by {}", activation.name()),
                None => "looks at more than one pixel at a time".to_owned(),
            };
            notes.push(format!(
                "`{name}` {reason}, so its {units} classes cannot be kept as a linear classifier: the features are what \
                 it reads"
            ));
            return End::Dropped;
        };
        if rounded {
            notes.push(format!(
                "the rounding of the logits after `{name}` is left out: they are floats"
            ));
        }
        // A file of this library has a classifier.
        if evidence.known == Some(true) {
            return End::Classifier(head);
        }
        let binary = sigmoid || evidence.two_classes;
        head::as_classes(head, &name, sigmoid, binary, notes).map_or(End::Dropped, End::Classifier)
    }

    /// Returns the form of the layer and the nodes after it, ignoring activations.
    fn form(&self, graph: &Graph) -> Option<Form> {
        let Op::Conv(conv) = &graph.nodes[self.layer].op else {
            return Some(Form::Dense);
        };
        let input = self.shapes[graph.nodes[self.layer].inputs[0].0].spatial()?;
        let output = self.shapes[self.layer + 1].spatial()?;
        let unpadded = conv.padding.resolve(input, conv.kernel(), conv.stride, conv.dilation) == [0; 4];
        if conv.group == 1 && unpadded && output == [1, 1] && conv.kernel() == input {
            return Some(Form::Entire);
        }
        self.mean(graph)?;
        // If there is no other convolution, this one is the network itself and not a classifier.
        graph.nodes[..self.layer]
            .iter()
            .find(|node| matches!(node.op, Op::Conv(_)))?;
        Some(
            if conv.group == 1 && unpadded && conv.kernel() == [1, 1] && output == input {
                Form::Mean
            } else {
                Form::Window
            },
        )
    }

    /// Returns the position after the layer at which the mean over height and width is taken.
    fn mean(&self, graph: &Graph) -> Option<usize> {
        let output = self.shapes[self.layer + 1].spatial()?;
        self.after.iter().position(|&index| match &graph.nodes[index].op {
            Op::GlobalAveragePool => true,
            Op::AveragePool(pool) => covers(pool, output),
            _ => false,
        })
    }

    fn units(&self, graph: &Graph) -> usize {
        match &graph.nodes[self.layer].op {
            Op::Conv(conv) => conv.channels(),
            Op::Dense { bias, .. } => bias.data().len(),
            _ => 0,
        }
    }

    /// Returns the layer as a classifier, with the constants after it merged.
    fn head(&self, graph: &Graph) -> Option<Head> {
        let units = self.units(graph);
        let (weight, bias) = match &graph.nodes[self.layer].op {
            Op::Dense { weight, bias } => (weight.data().to_vec(), bias.data().to_vec()),
            Op::Conv(Conv { weight, bias, .. }) => {
                let bias = bias
                    .as_ref()
                    .map_or_else(|| vec![0.0; units], |bias| bias.data().to_vec());
                (weight.values().into_owned(), bias)
            }
            _ => return None,
        };
        let mut head = Head {
            features: weight.len() / units.max(1),
            weight,
            bias,
        };
        for &index in &self.after {
            match &graph.nodes[index].op {
                Op::BatchNorm(norm) => {
                    let (scale, bias) = head::norm_as_affine(norm);
                    head::scale(&mut head, &scale, &bias)?;
                }
                Op::ChannelAffine { scale, bias } => {
                    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
                    head::scale(&mut head, &wide(scale.data()), &wide(bias.data()))?;
                }
                _ => {}
            }
        }
        Some(head)
    }

    /// Makes the layer's input the features. The new nodes get the names of the nodes after the layer that did the
    /// same.
    fn move_features(&self, graph: &mut Graph, form: &Form) {
        let after = |wanted: fn(&Op) -> bool| {
            let found = self
                .after
                .iter()
                .map(|&index| &graph.nodes[index])
                .find(|node| wanted(&node.op));
            found.map(|node| node.name.clone())
        };
        let pool = after(|op| matches!(op, Op::GlobalAveragePool | Op::AveragePool(_)));
        let flatten = after(|op| matches!(op, Op::Flatten));
        graph.features = graph.nodes[self.layer].inputs[0];
        // Only the tail reads the layer, so nothing else depends on the removed nodes.
        graph.nodes.truncate(self.layer);
        if matches!(form, Form::Mean | Form::Window) && self.shapes[graph.features.0].spatial() != Some([1, 1]) {
            append(graph, pool.as_deref().unwrap_or("features.pool"), Op::GlobalAveragePool);
        }
        if !matches!(form, Form::Dense) {
            append(graph, flatten.as_deref().unwrap_or("features.flatten"), Op::Flatten);
        }
    }
}

/// Returns whether a window covers a map of `size` completely.
fn covers(pool: &Pool, size: [usize; 2]) -> bool {
    pool.kernel == size && pool.padding.resolve(size, pool.kernel, pool.stride, [1, 1]) == [0; 4]
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
