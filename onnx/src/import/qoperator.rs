//! Operators that compute on integers (`QLinearConv` and others, ONNX opset 10 and ONNX Runtime's own), rewritten as
//! dequantisation, the float operator, and quantisation.

use std::collections::HashSet;

use super::order;
use crate::{
    proto::{AttributeProto, GraphProto, NodeProto},
    write::int,
};

/// Inputs of a quantised operator.
#[derive(Clone, Copy)]
enum Inputs {
    /// `x, scale, zero point`, as often as stated, and then scale and zero point of the result.
    Each(usize),
    /// Scale and zero point of the result, and then `x, scale, zero point` any number of times.
    Any,
    /// `x` and `w` with theirs, those of the result, and an integer bias with the product of both scales.
    Conv,
    /// `a` and `b` with theirs, an integer bias, and those of the result.
    Gemm,
}

/// Returns the float operator and the form of the inputs.
fn known(domain: &str, operator: &str) -> Option<(&'static str, Inputs)> {
    Some(match (domain, operator) {
        ("", "QLinearConv") => ("Conv", Inputs::Conv),
        ("", "QLinearMatMul") => ("MatMul", Inputs::Each(2)),
        ("com.microsoft", "QGemm") => ("Gemm", Inputs::Gemm),
        ("com.microsoft", "QLinearAdd") => ("Add", Inputs::Each(2)),
        ("com.microsoft", "QLinearMul") => ("Mul", Inputs::Each(2)),
        ("com.microsoft", "QLinearConcat") => ("Concat", Inputs::Any),
        ("com.microsoft", "QLinearGlobalAveragePool") => ("GlobalAveragePool", Inputs::Each(1)),
        ("com.microsoft", "QLinearAveragePool") => ("AveragePool", Inputs::Each(1)),
        ("com.microsoft", "QLinearSigmoid") => ("Sigmoid", Inputs::Each(1)),
        ("com.microsoft", "QLinearLeakyRelu") => ("LeakyRelu", Inputs::Each(1)),
        ("com.microsoft", "QLinearSoftmax") => ("Softmax", Inputs::Each(1)),
        _ => return None,
    })
}

/// Rewrites the quantised operators of a graph. Those in an unknown form stay, and are refused by name later.
pub(super) fn rewrite(graph: &mut GraphProto) {
    let standard = |node: &NodeProto| match node.domain.as_deref() {
        None | Some("" | "ai.onnx") => String::new(),
        Some(other) => other.to_owned(),
    };
    let find = |node: &NodeProto| known(&standard(node), node.op_type.as_deref().unwrap_or(""));
    if !graph.node.iter().any(|node| find(node).is_some()) {
        return;
    }
    let mut taken: HashSet<String> = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.clone())
        .collect();
    for node in &graph.node {
        taken.extend(node.output.iter().chain(node.name.as_ref()).cloned());
    }
    taken.extend(graph.input.iter().filter_map(|input| input.name.clone()));
    let nodes = std::mem::take(&mut graph.node);
    for node in nodes {
        let float = find(&node).and_then(|(operator, inputs)| Rewritten::new(&node, operator, inputs, &mut taken));
        match float {
            Some(float) => graph.node.extend(float.nodes),
            None => graph.node.push(node),
        }
    }
}

/// The nodes that take the place of one.
struct Rewritten<'a> {
    node: &'a NodeProto,
    taken: &'a mut HashSet<String>,
    nodes: Vec<NodeProto>,
}

impl<'a> Rewritten<'a> {
    fn new(node: &'a NodeProto, operator: &str, inputs: Inputs, taken: &'a mut HashSet<String>) -> Option<Self> {
        let mut new = Self {
            node,
            taken,
            nodes: Vec::new(),
        };
        let input = |index: usize| node.input.get(index).map_or("", String::as_str);
        let (read, result) = match inputs {
            Inputs::Each(count) => {
                let read = (0..count).map(|which| new.dequantised(3 * which, 1));
                (read.collect(), [3 * count, 3 * count + 1])
            }
            Inputs::Any => {
                let groups = (2..node.input.len()).step_by(3);
                (groups.map(|first| new.dequantised(first, 1)).collect(), [0, 1])
            }
            Inputs::Conv => {
                let mut read = vec![new.dequantised(0, 1), new.dequantised(3, 0)];
                if !input(8).is_empty() {
                    read.push(new.bias(input(8), [input(1), input(4)]));
                }
                (read, [6, 7])
            }
            Inputs::Gemm => {
                if number(node, "alpha").is_some_and(|alpha| alpha != 1.0) {
                    return None;
                }
                let transposed = node
                    .attribute
                    .iter()
                    .any(|attribute| attribute.name.as_deref() == Some("transB") && attribute.i == Some(1));
                let mut read = vec![new.dequantised(0, 1), new.dequantised(3, usize::from(!transposed))];
                if !input(6).is_empty() {
                    read.push(new.bias(input(6), [input(1), input(4)]));
                }
                (read, [7, 8])
            }
        };
        let output = node.output.first()?;
        let attributes = || {
            node.attribute
                .iter()
                .filter(|attribute| attribute.name.as_deref() != Some("channels_last") || attribute.i != Some(0))
        };
        let [scale, zero_point] = result.map(input);
        let name = node.name.clone().filter(|name| !name.is_empty());
        let mut float = NodeProto {
            input: read,
            name: name.clone(),
            op_type: Some(operator.to_owned()),
            attribute: attributes().cloned().collect(),
            ..NodeProto::default()
        };
        if scale.is_empty() {
            float.output = vec![output.clone()];
            new.nodes.push(float);
        } else {
            let real = new.fresh("real");
            float.output = vec![real.clone()];
            new.nodes.push(float);
            let inputs = [real.as_str(), scale, zero_point];
            new.push("QuantizeLinear", &inputs, output.clone(), vec![]);
        }
        Some(new)
    }

    fn fresh(&mut self, part: &str) -> String {
        let base = self.node.name.clone().filter(|name| !name.is_empty());
        let base = base.or_else(|| self.node.output.first().cloned()).unwrap_or_default();
        order::free(self.taken, format!("{base}.{part}"))
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: String, attribute: Vec<AttributeProto>) {
        let name = self.fresh(operator);
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output],
            name: Some(name),
            op_type: Some(operator.to_owned()),
            attribute,
            domain: None,
        });
    }

    /// Adds the dequantisation of input `first`, with the two inputs after it, along `axis`. Returns its output.
    fn dequantised(&mut self, first: usize, axis: usize) -> String {
        let node = self.node;
        let inputs = [0, 1, 2].map(|at| node.input.get(first + at).map_or("", String::as_str));
        let output = self.fresh("input");
        self.push("DequantizeLinear", &inputs, output.clone(), vec![int("axis", axis)]);
        output
    }

    /// Adds the dequantisation of an integer bias with the product of two scales. Returns its output.
    fn bias(&mut self, bias: &str, scales: [&str; 2]) -> String {
        let step = self.fresh("bias_scale");
        self.push("Mul", &scales, step.clone(), vec![]);
        let output = self.fresh("bias");
        self.push("DequantizeLinear", &[bias, &step], output.clone(), vec![int("axis", 0)]);
        output
    }
}

fn number(node: &NodeProto, name: &str) -> Option<f32> {
    let found = node
        .attribute
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some(name));
    found.and_then(|attribute| attribute.f)
}
