//! Kinds of files that are refused as a whole: quantised files, and files optimised by ONNX Runtime.

use std::collections::BTreeMap;

use crate::{
    Missing, OnnxError,
    proto::{GraphProto, NodeProto},
};

/// Returns the error for a file with unsupported nodes. If the nodes reveal the file's kind, the error states it.
pub(super) fn refusal(
    graph: &GraphProto,
    missing: Vec<Missing>,
    unchecked: usize,
    read_until: Option<String>,
    origin: &str,
) -> OnnxError {
    let refused = |wanted: fn(&str) -> bool| missing.iter().any(|item| wanted(&item.operator));
    if refused(is_quantised)
        && let Some(error) = quantised(graph, origin)
    {
        return error;
    }
    if refused(is_optimised) {
        return OnnxError::Optimised {
            origin: origin.to_owned(),
            operators: counts(graph, is_optimised),
        };
    }
    OnnxError::Unsupported {
        origin: origin.to_owned(),
        missing,
        unchecked,
        read_until,
    }
}

/// Returns the refusal of a quantised file; `None` if it is not quantised.
pub(super) fn quantised(graph: &GraphProto, origin: &str) -> Option<OnnxError> {
    let operators = counts(graph, is_quantised);
    (!operators.is_empty()).then(|| OnnxError::Quantised {
        origin: origin.to_owned(),
        operators,
    })
}

/// Returns whether an operator belongs to arithmetic of 8 bits or fewer: those of ONNX, of ONNX Runtime, and of
/// training with simulated quantisation. `operator` may start with its domain.
fn is_quantised(operator: &str) -> bool {
    let name = operator.rsplit('.').next().unwrap_or(operator);
    if matches!(operator, "QuantizeLinear" | "DequantizeLinear") {
        // Supported in the default domain, so a refusal has its own reason.
        return false;
    }
    name.to_lowercase().contains("quant")
        || [
            "QLinear",
            "QGemm",
            "QAttention",
            "QOrdered",
            "MatMulNBits",
            "MatMulBnb4",
            "ConvInteger",
            "MatMulInteger",
        ]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Returns whether only ONNX Runtime's optimiser writes this operator. `operator` starts with its domain.
fn is_optimised(operator: &str) -> bool {
    operator.starts_with("com.microsoft.") || operator.starts_with("com.ms.internal.")
}

/// Returns the operators of a kind with the number of their nodes, most frequent first.
fn counts(graph: &GraphProto, wanted: fn(&str) -> bool) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for operator in graph.node.iter().map(full_name).filter(|operator| wanted(operator)) {
        *counts.entry(operator).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts
}

fn full_name(node: &NodeProto) -> String {
    let operator = node.op_type.as_deref().unwrap_or("");
    match node.domain.as_deref() {
        None | Some("" | "ai.onnx") => operator.to_owned(),
        Some(domain) => format!("{domain}.{operator}"),
    }
}
