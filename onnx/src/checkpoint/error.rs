//! Errors of importing a checkpoint.

use std::path::PathBuf;

use super::Architecture;
use crate::OnnxError;

/// Error of [`import`](super::import). Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A part of the file is larger than a checkpoint needs.
    #[error("{origin}: {what}: at most {limit}, got {got}")]
    TooLarge {
        /// The file.
        origin: String,
        /// The subject.
        what: &'static str,
        /// The cap.
        limit: u64,
        /// The actual or claimed size.
        got: u64,
    },
    /// The content is of no known format.
    #[error(
        "{origin}: neither ONNX nor a checkpoint\nhint: supported are .onnx, PyTorch state dicts (.pth, .pt) and .safetensors, told by the content"
    )]
    UnknownFormat {
        /// The file.
        origin: String,
    },
    /// The file is an ONNX file and cannot be read, or the graph built from a checkpoint was refused.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The pickle is damaged, or uses opcodes in a way that no state dict does.
    #[error("{origin}: pickle, byte {offset}: {reason}")]
    Pickle {
        /// The file.
        origin: String,
        /// Position in the pickle.
        offset: usize,
        /// The defect.
        reason: String,
    },
    /// The pickle refers to a function that runs programs or code when Python loads the file. Nothing was executed.
    #[error(
        "{origin}: pickle, byte {offset}: refers to `{global}`, which runs programs or code where Python loads the file; nothing was executed\nhint: the file may be an attack: do not load it in Python without weights_only=True, and get the weights from a source that you trust"
    )]
    ForbiddenGlobal {
        /// The file.
        origin: String,
        /// Position in the pickle.
        offset: usize,
        /// Module and name.
        global: String,
    },
    /// The container around the weights is damaged, or of an unsupported kind.
    #[error("{origin}: {reason}")]
    Container {
        /// The file.
        origin: String,
        /// The defect.
        reason: String,
    },
    /// One tensor cannot be read.
    #[error("{origin}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file.
        origin: String,
        /// The tensor.
        tensor: String,
        /// The defect.
        reason: String,
    },
    /// The names match none of the known architectures.
    #[error(
        "{origin}: architecture not recognised from {count} tensors, the first are {}\nhint: {}known are {}; for any other network export ONNX",
        first.join(", "),
        if *shard { super::choose::SHARD_HINT } else { "" },
        super::architecture::names()
    )]
    UnknownArchitecture {
        /// The file.
        origin: String,
        /// Number of tensors.
        count: usize,
        /// The first names.
        first: Vec<String>,
        /// Whether the file has the name of a shard.
        shard: bool,
    },
    /// The tensors do not match the architecture. The list of problems is complete.
    #[error("{origin}: {} tensor(s) do not fit {architecture}:{}\nhint: {hint}", problems.len(), list(problems))]
    Mismatch {
        /// The file.
        origin: String,
        /// The architecture, given or guessed.
        architecture: Architecture,
        /// Every tensor that is missing, unexpected, or of the wrong shape.
        problems: Vec<TensorProblem>,
        /// The remedy.
        hint: String,
    },
    /// Several architectures have tensors of these names and shapes, but compute different functions.
    #[error(
        "{origin}: the tensors fit {}, which compute different things from them\nhint: say which it is:{}",
        joined(architectures, " and ", ToString::to_string),
        joined(architectures, "", |architecture| format!("\n  --architecture {architecture}: {}", architecture.title()))
    )]
    Ambiguous {
        /// The file.
        origin: String,
        /// The networks.
        architectures: Vec<Architecture>,
    },
}

/// A tensor that does not match the architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The architecture has the tensor, but the file does not.
    Missing {
        /// The tensor's name.
        name: String,
        /// The tensor's shape in the architecture.
        expected: Vec<usize>,
    },
    /// The file has the tensor, but the architecture does not.
    Unexpected {
        /// The tensor's name.
        name: String,
        /// The tensor's shape in the file.
        got: Vec<usize>,
    },
    /// Architecture and file have the tensor, but with different shapes.
    Shape {
        /// The tensor's name.
        name: String,
        /// The tensor's shape in the architecture.
        expected: Vec<usize>,
        /// The tensor's shape in the file.
        got: Vec<usize>,
    },
    /// A pickled module has another stride, padding, dilation or ε for the layer.
    Setting {
        /// The layer and the setting, such as `layer4.0.conv2.stride`.
        name: String,
        /// The value in the architecture.
        expected: String,
        /// The value in the file.
        got: String,
    },
    /// Architecture and file have the tensor, but its values cannot be read.
    Unreadable {
        /// The tensor's name.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl std::fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { name, expected } => write!(f, "`{name}`: expected {expected:?}, got nothing"),
            Self::Unexpected { name, got } => write!(f, "`{name}`: expected nothing, got {got:?}"),
            Self::Setting { name, expected, got } => write!(f, "`{name}`: expected {expected}, got {got}"),
            Self::Unreadable { name, reason } => write!(f, "`{name}`: {reason}"),
            Self::Shape { name, expected, got } => write!(f, "`{name}`: expected {expected:?}, got {got:?}"),
        }
    }
}

/// Maximum number of problems in a message. A different network has hundreds.
const SHOWN: usize = 12;

fn list(problems: &[TensorProblem]) -> String {
    let mut text: String = problems
        .iter()
        .take(SHOWN)
        .flat_map(|problem| ["\n  ".to_owned(), problem.to_string()])
        .collect();
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        text.extend(["\n  and ".to_owned(), more.to_string(), " more".to_owned()]);
    }
    text
}

fn joined(architectures: &[Architecture], between: &str, text: impl Fn(&Architecture) -> String) -> String {
    architectures.iter().map(text).collect::<Vec<_>>().join(between)
}
