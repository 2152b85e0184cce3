//! Errors of backbone files and of adapters for them.

use std::path::PathBuf;

use clr_adapters::Digest;

pub use crate::missing::Missing;
use crate::{
    message::{lines, quoted},
    missing::{list, unchecked_nodes, way_out},
};

/// Error of reading, validating, writing or rewriting a backbone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A part of the file is larger than this library accepts.
    #[error("{origin}: {what}: at most {limit}, got {got}")]
    TooLarge {
        /// The file.
        origin: String,
        /// The part.
        what: String,
        /// The limit.
        limit: u64,
        /// The file's value.
        got: u64,
    },
    /// The background next to the file cannot be used with it.
    #[error(
        "{origin}: {reason}\nhint: copy the file again, fit a background to this backbone with `clr background`, or remove the file"
    )]
    Background {
        /// The file.
        origin: String,
        /// The fault, with expected and got.
        reason: String,
    },
    /// The bytes are not an ONNX model.
    #[error(
        "{origin}: not an ONNX model: {reason}\nhint: expected the bytes of a ModelProto, as an ONNX exporter writes them"
    )]
    Malformed {
        /// The file.
        origin: String,
        /// The defect.
        reason: String,
    },
    /// The operator set is outside 7–28.
    #[error(
        "{origin}: expected opset 7 to 28, got {}\nhint: export the model again with opset 17{}",
        got.map_or_else(|| "none".into(), |version| version.to_string()),
        conversion(*got)
    )]
    Opset {
        /// The file.
        origin: String,
        /// The version of the default domain in the file.
        got: Option<i64>,
    },
    /// The file is of another kind, or damaged.
    #[error("{origin}: {what}\nhint: {hint}")]
    Foreign {
        /// The file.
        origin: String,
        /// What was found, and what was expected.
        what: String,
        /// A way to obtain a file that can be read.
        hint: String,
    },
    /// Weights in another file cannot be read.
    #[error("{origin}: external data `{file}`: {reason}\nhint: {hint}")]
    External {
        /// The model.
        origin: String,
        /// The other file, under the name in the model.
        file: String,
        /// The defect: expected and got.
        reason: String,
        /// The remedy.
        hint: String,
    },
    /// The model is quantised.
    #[error(
        "{origin}: the model is quantised in a form that cannot be read ({})\nhint: give the float model that it was made from, and \
         quantise that with `clr quantize`; QuantizeLinear and DequantizeLinear with fixed scales are read too",
        counted(operators)
    )]
    Quantised {
        /// The file.
        origin: String,
        /// The operators that show that the model is quantised, with the number of their nodes.
        operators: Vec<(String, usize)>,
    },
    /// The model was optimised for ONNX Runtime and contains operators that only ONNX Runtime has.
    #[error(
        "{origin}: the model was optimised by ONNX Runtime, with operators that only it has ({})\nhint: give the file as the \
         exporter wrote it, before the optimisation, or optimise with graph_optimization_level ORT_ENABLE_BASIC",
        counted(operators)
    )]
    Optimised {
        /// The file.
        origin: String,
        /// The operators that only ONNX Runtime has, with the number of their nodes.
        operators: Vec<(String, usize)>,
    },
    /// The graph has nodes that this library does not support. The list is complete.
    #[error(
        "{origin}: {} node(s) not supported:{}{}\nhint: {}",
        missing.len(), list(missing), unchecked_nodes(*unchecked), way_out(read_until.as_deref())
    )]
    Unsupported {
        /// The file.
        origin: String,
        /// Every unsupported node, in the file's order.
        missing: Vec<Missing>,
        /// Number of supported nodes that could not be checked, because they read values of unsupported ones.
        unchecked: usize,
        /// If only the end of the model is unsupported: the value before it, with its shape.
        read_until: Option<String>,
    },
    /// The file leaves the height or width of the image open.
    #[error(
        "{origin}: input: `{input}` is {shape}: the height or width is dynamic\nhint: state the size in pixels: `clr import \
         {} --size {}`",
        quoted(origin), size(*suggestion)
    )]
    OpenSize {
        /// The file.
        origin: String,
        /// The input.
        input: String,
        /// Shape of the input.
        shape: String,
        /// Rows and columns, for the hint.
        suggestion: [i64; 2],
    },
    /// The model has several outputs of which none is preferred, or none has the requested name.
    #[error(
        "{origin}: output: {reason}:{}\nhint: choose one by its name, as in `clr import {} --output-name {}`",
        lines(outputs),
        quoted(origin),
        quoted(suggestion)
    )]
    Outputs {
        /// The file.
        origin: String,
        /// The reason why no output was chosen.
        reason: String,
        /// Every output with its shape and its probable meaning.
        outputs: Vec<String>,
        /// The suggested output.
        suggestion: String,
    },
    /// The graph's input is not a single image.
    #[error("{origin}: input: {reason}\nhint: expected one float input [N, 3, height, width]")]
    Input {
        /// The file.
        origin: String,
        /// The defect.
        reason: String,
    },
    /// The graph's output is not a single tensor.
    #[error("{origin}: output: {reason}\nhint: expected one output, [N, classes], [N, features] or [N, C, H, W]")]
    Output {
        /// The file.
        origin: String,
        /// The defect.
        reason: String,
    },
    /// Some nodes depend on each other in a cycle.
    #[error("{origin}: the graph has a cycle through {}", nodes.join(", "))]
    Cycle {
        /// The file.
        origin: String,
        /// Some nodes of the cycle.
        nodes: Vec<String>,
    },
    /// A node reads a value that no node produces.
    #[error("{origin}: node `{node}` reads `{value}`, which nothing produces")]
    MissingValue {
        /// The file.
        origin: String,
        /// The reader.
        node: String,
        /// The missing value.
        value: String,
    },
    /// Two things have the same name.
    #[error("{origin}: {what} `{name}` is defined twice")]
    Duplicate {
        /// The file.
        origin: String,
        /// The owner of the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A constant of the file cannot be read.
    #[error("{origin}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The defect.
        reason: String,
    },
    /// A node's weights or attributes are inconsistent, or do not fit its input.
    #[error("node `{node}`: {reason}")]
    Node {
        /// The node.
        node: String,
        /// The defect: expected and got.
        reason: String,
    },
    /// The graph is not a backbone.
    #[error("graph: {reason}")]
    Graph {
        /// The defect.
        reason: String,
    },
    /// Metadata written by this library cannot be read.
    #[error("{origin}: metadata `{key}`: {reason}")]
    Metadata {
        /// The file.
        origin: String,
        /// The key in `metadata_props`.
        key: String,
        /// The defect.
        reason: String,
    },
    /// An adapter does not fit the backbone.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
}

/// Returns a list of operators with their numbers, such as `QLinearConv ×21, QLinearAdd ×8`.
fn counted(operators: &[(String, usize)]) -> String {
    let items: Vec<String> = operators
        .iter()
        .map(|(operator, count)| format!("{operator} ×{count}"))
        .collect();
    items.join(", ")
}

fn size([height, width]: [i64; 2]) -> String {
    if height == width {
        height.to_string()
    } else {
        format!("{height}x{width}")
    }
}

/// The reason why an adapter does not fit a backbone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterMismatch {
    /// The adapter was made for another backbone.
    #[error(
        "adapter `{task}` belongs to another backbone: expected {expected}, got {got}\nhint: use the backbone that the adapter was trained on"
    )]
    Backbone {
        /// The adapter's task.
        task: String,
        /// The digest of the backbone at hand.
        expected: Digest,
        /// The digest in the adapter.
        got: Digest,
    },
    /// The adapter has more sites than its recipe has on this backbone, or none.
    #[error("adapter `{task}`, recipe {recipe}: expected at most {expected} sites, and at least one, got {got}")]
    SiteCount {
        /// The adapter's task.
        task: String,
        /// The adapter's recipe.
        recipe: clr_adapters::Recipe,
        /// Number of sites that the recipe has on the backbone.
        expected: usize,
        /// Number of sites of the adapter.
        got: usize,
    },
    /// The name of a site differs from the backbone's site at this position.
    #[error("adapter `{task}`, site {index}: expected `{expected}`, got `{got}`")]
    SiteName {
        /// The adapter's task.
        task: String,
        /// Index of the site among the adapter's sites.
        index: usize,
        /// The backbone's name.
        expected: String,
        /// The adapter's name.
        got: String,
    },
    /// A site's weights have the wrong kind or length.
    #[error("adapter `{task}`, site `{site}`: {part}: expected {expected}, got {got}")]
    SiteShape {
        /// The adapter's task.
        task: String,
        /// The site.
        site: String,
        /// `weights` or `bias`.
        part: &'static str,
        /// The kind and number of values that the backbone requires.
        expected: String,
        /// The kind and number of values in the adapter.
        got: String,
    },
    /// The head does not fit the features, or is inconsistent.
    #[error("adapter `{task}`, head: {part}: expected {expected}, got {got}")]
    Head {
        /// The adapter's task.
        task: String,
        /// `features`, `weight`, `bias` or `labels`.
        part: &'static str,
        /// Number of values that the backbone requires.
        expected: usize,
        /// Number of values in the adapter.
        got: usize,
    },
}

/// Returns the hint for converting an older model. `BatchNormalization` can be converted from opset 6 on, and the
/// converters need the shapes.
fn conversion(opset: Option<i64>) -> &'static str {
    match opset {
        Some(1..7) => {
            ", or convert it in Python: import onnx; from onnx import shape_inference as s, version_converter as v; \
             m = v.convert_version(onnx.load('IN.onnx'), 6); del m.graph.value_info[:]; \
             onnx.save(v.convert_version(s.infer_shapes(m), 17), 'OUT.onnx')"
        }
        _ => "",
    }
}
