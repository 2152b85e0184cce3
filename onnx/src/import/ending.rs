//! Decisions at the end of a model (Softmax, `ArgMax`, `TopK` and nodes that accompany them), which are left out so
//! that the logits remain.

use std::collections::{HashMap, HashSet};

use super::order;
use crate::proto::{GraphProto, NodeProto};

/// Maximum number of nodes at the end that are examined.
const MAX_NODES: usize = 64;

/// The end of a model after its logits.
#[derive(Clone, Default)]
pub(super) struct Ending<'a> {
    /// The operators that are left out, in the graph's order from the logits to the output.
    pub(super) operators: Vec<&'a str>,
    /// Index in the file of the innermost Softmax or `LogSoftmax`, whose axis still has to be checked.
    pub(super) softmax: Option<usize>,
}

impl Ending<'_> {
    /// Returns whether the model ends in a decision between classes.
    pub(super) fn decides(&self) -> bool {
        !self.operators.is_empty()
    }
}

/// Producers of a graph's values, and which values are constants.
pub(super) struct Producers<'a> {
    graph: &'a GraphProto,
    nodes: HashMap<&'a str, usize>,
    constants: HashSet<&'a str>,
}

impl<'a> Producers<'a> {
    pub(super) fn new(graph: &'a GraphProto) -> Self {
        let outputs =
            |(index, node): (usize, &'a NodeProto)| node.output.iter().map(move |output| (output.as_str(), index));
        let constant = |node: &&NodeProto| node.op_type.as_deref() == Some("Constant");
        let inner = graph
            .node
            .iter()
            .filter(constant)
            .flat_map(|node| &node.output)
            .map(String::as_str);
        Self {
            graph,
            nodes: graph.node.iter().enumerate().flat_map(outputs).collect(),
            constants: graph
                .initializer
                .iter()
                .filter_map(|tensor| tensor.name.as_deref())
                .chain(inner)
                .collect(),
        }
    }

    /// Returns whether a node produces this value.
    pub(super) fn has(&self, value: &str) -> bool {
        self.nodes.contains_key(value)
    }

    /// Returns the node that produces `value`, and its input that is not a constant. If there are several, returns the
    /// last one, because `ArrayFeatureExtractor` reads the classes first.
    fn before(&self, value: &str) -> Option<(usize, &'a str)> {
        let &index = self.nodes.get(value)?;
        let inputs = order::inputs(&self.graph.node[index]).filter(|input| !self.constants.contains(input));
        Some((index, inputs.last()?))
    }

    /// Returns the input of the last layer with weights before `value`.
    pub(super) fn last_layer_reads(&self, value: &'a str) -> Option<&'a str> {
        let mut cursor = value;
        for _ in 0..MAX_NODES {
            let (index, input) = self.before(cursor)?;
            cursor = input;
            if matches!(
                self.graph.node[index].op_type.as_deref(),
                Some("Conv" | "Gemm" | "MatMul")
            ) {
                return Some(cursor);
            }
        }
        None
    }

    /// Returns the value to read in place of `output`, and the ending after it.
    pub(super) fn strip(&self, output: &'a str) -> (&'a str, Ending<'a>) {
        self.walk(output, decides)
    }

    /// Returns the value before all decisions. Outputs with the same root show the same result.
    pub(super) fn root(&self, output: &'a str) -> &'a str {
        let always = |operator: &str| matches!(operator, "Sigmoid" | "Identity" | "Dropout" | "Cast");
        self.walk(output, |operator| decides(operator) || always(operator)).0
    }

    /// Walks back from `output` to the innermost operator for which `ends` returns true, across operators that only
    /// accompany it.
    fn walk(&self, output: &'a str, ends: impl Fn(&str) -> bool) -> (&'a str, Ending<'a>) {
        let (mut value, mut ending) = (output, Ending::default());
        let (mut cursor, mut passed) = (output, Vec::new());
        for _ in 0..MAX_NODES {
            let Some((index, input)) = self.before(cursor) else {
                break;
            };
            let operator = self.graph.node[index].op_type.as_deref().unwrap_or("");
            if !ends(operator) && !accompanies(operator) {
                break;
            }
            passed.push(operator);
            cursor = input;
            if ends(operator) {
                value = input;
                ending.operators.append(&mut passed);
                if matches!(operator, "Softmax" | "LogSoftmax") {
                    ending.softmax = Some(index);
                }
            }
        }
        ending.operators.retain(|operator| ends(operator));
        ending.operators.reverse();
        (value, ending)
    }
}

/// Returns whether only a classifier ends in this operator.
fn decides(operator: &str) -> bool {
    matches!(
        operator,
        "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "ArgMax"
            | "TopK"
            | "Greater"
            | "GreaterOrEqual"
            | "ZipMap"
            | "LabelEncoder"
            | "ArrayFeatureExtractor"
    )
}

/// Returns whether an operator may accompany a decision: it changes only the shape or type, or selects the highest
/// probability.
fn accompanies(operator: &str) -> bool {
    matches!(
        operator,
        "Identity"
            | "Dropout"
            | "Cast"
            | "Squeeze"
            | "Unsqueeze"
            | "Reshape"
            | "Flatten"
            | "Log"
            | "Exp"
            | "ReduceMax"
            | "Round"
            | "Sigmoid"
            | "QuantizeLinear"
            | "DequantizeLinear"
    )
}
