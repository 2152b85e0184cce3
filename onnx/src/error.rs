//! What can go wrong with a backbone file or an adapter for it.

use std::path::PathBuf;

use clr_adapters::Digest;

/// An error of reading, checking, writing or rewriting a backbone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part of the file is larger than this library accepts.
    #[error("{origin}: {what}: at most {limit}, got {got}")]
    TooLarge {
        /// The file.
        origin: String,
        /// Which part.
        what: String,
        /// The cap.
        limit: u64,
        /// What the file has.
        got: u64,
    },
    /// The bytes are not an ONNX model.
    #[error(
        "{origin}: not an ONNX model: {reason}\nhint: expected the bytes of a ModelProto, as an ONNX exporter writes them"
    )]
    Malformed {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The operator set is outside 11–21.
    #[error("{origin}: expected opset 11 to 21, got {}\nhint: export the model again with opset 17", got.map_or_else(|| "none".into(), |version| version.to_string()))]
    Opset {
        /// The file.
        origin: String,
        /// The version of the default domain in the file.
        got: Option<i64>,
    },
    /// The graph uses what this library does not know. The list is complete.
    #[error("{origin}: {} node(s) not supported:{}{}\nhint: see docs/adding-an-operator.md", missing.len(), list(missing), behind(*unchecked))]
    Unsupported {
        /// The file.
        origin: String,
        /// Every node that is in the way, in the file's order.
        missing: Vec<Missing>,
        /// How many nodes of known operators could not be checked, because they read what these would have produced.
        unchecked: usize,
    },
    /// The graph's input is not one picture.
    #[error(
        "{origin}: input: {reason}\nhint: expected one float input [N, 3, height, width] with fixed height and width"
    )]
    Input {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The graph's output is not one tensor.
    #[error("{origin}: output: {reason}\nhint: expected one output, [N, classes], [N, features] or [N, C, H, W]")]
    Output {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Nodes that wait for one another.
    #[error("{origin}: the graph has a cycle through {}", nodes.join(", "))]
    Cycle {
        /// The file.
        origin: String,
        /// Some nodes of the cycle.
        nodes: Vec<String>,
    },
    /// A node reads what nothing produces.
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
        /// What has the name.
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
        /// What is wrong.
        reason: String,
    },
    /// A node's weights or attributes do not fit together or do not fit its input.
    #[error("node `{node}`: {reason}")]
    Node {
        /// The node.
        node: String,
        /// What is wrong: expected and got.
        reason: String,
    },
    /// The graph as a whole is not a backbone.
    #[error("graph: {reason}")]
    Graph {
        /// What is wrong.
        reason: String,
    },
    /// The metadata this library wrote cannot be read back.
    #[error("{origin}: metadata `{key}`: {reason}")]
    Metadata {
        /// The file.
        origin: String,
        /// The key in `metadata_props`.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// An adapter does not fit the backbone.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
}

/// One node that stands in the way of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The node's name.
    pub node: String,
    /// Its operator, with its domain if that is not the default one.
    pub operator: String,
    /// The opset of the operator's domain.
    pub opset: i64,
    /// What about it is not supported.
    pub reason: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "node `{}`: {} (opset {}): {}",
            self.node, self.operator, self.opset, self.reason
        )
    }
}

fn list(missing: &[Missing]) -> String {
    use std::fmt::Write as _;
    missing.iter().fold(String::new(), |mut text, item| {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {item}");
        text
    })
}

fn behind(unchecked: usize) -> String {
    match unchecked {
        0 => String::new(),
        count => {
            format!("\n  ({count} more of known operators read what these produce and could not be checked in detail)")
        }
    }
}

/// Why an adapter does not fit a backbone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterMismatch {
    /// It was made for another backbone.
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
    /// The number of reprogrammed sites differs from what its recipe puts on this backbone.
    #[error("adapter `{task}`, recipe {recipe}: expected {expected} sites, got {got}")]
    SiteCount {
        /// The adapter's task.
        task: String,
        /// Its recipe.
        recipe: clr_adapters::Recipe,
        /// Sites of the backbone under the recipe.
        expected: usize,
        /// Sites of the adapter.
        got: usize,
    },
    /// A site has another name than the backbone's site at its place.
    #[error("adapter `{task}`, site {index}: expected `{expected}`, got `{got}`")]
    SiteName {
        /// The adapter's task.
        task: String,
        /// Its place among the adapter's sites.
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
        /// The kind and number of values.
        expected: String,
        /// The kind and number of values.
        got: String,
    },
    /// The head does not fit the features, or itself.
    #[error("adapter `{task}`, head: {part}: expected {expected}, got {got}")]
    Head {
        /// The adapter's task.
        task: String,
        /// `features`, `weight`, `bias` or `labels`.
        part: &'static str,
        /// Number of values.
        expected: usize,
        /// Number of values.
        got: usize,
    },
}
