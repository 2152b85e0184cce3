//! Values that the file's names stand for during an import.

use super::{opaque::Foreign, view::View};
use crate::{Missing, OnnxError, QuantisedTensor, Tensor, graph::ValueId};

/// Maximum number of characters of a reason.
const MAX_REASON: usize = 1000;

/// One entry of a shape vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    /// A multiple of the batch size, by this factor. The batch size is not known.
    Batch(i64),
    Known(i64),
}

/// A constant of 8-bit integers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bytes {
    pub(super) dims: Vec<usize>,
    /// Whether the bytes are `int8`; otherwise they are `uint8`.
    pub(super) signed: bool,
    pub(super) values: Vec<u8>,
}

impl Bytes {
    /// Returns the integers.
    pub(super) fn integers(&self) -> impl Iterator<Item = i32> {
        let signed = self.signed;
        let integer = move |value: &u8| {
            if signed {
                value.cast_signed().into()
            } else {
                i32::from(*value)
            }
        };
        self.values.iter().map(integer)
    }
}

/// The value of a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Computed from the image.
    Data(ValueId),
    /// Computed from the image, in another layout than the graph's.
    View(View),
    /// Computed from the image or from sizes, by nodes that no operation of the graph expresses.
    Foreign(Foreign),
    /// Computed from the image and quantised.
    Quantised {
        /// The real value.
        real: Box<Value>,
        /// Whether the bytes are `int8`; otherwise they are `uint8`.
        signed: bool,
    },
    /// A constant of floats.
    Tensor(Tensor),
    /// A constant of 8-bit integers.
    Bytes(Bytes),
    /// Weights of a convolution in 8-bit integers, with their scales.
    Weight(QuantisedTensor),
    /// Integers that are known at import, except for the batch: axes, pads and the shape arithmetic of exporters.
    Integers { dims: Vec<usize>, values: Vec<Dim> },
    /// A constant of another type.
    Other(&'static str),
    /// The output of a node that was refused.
    Unknown,
}

impl Value {
    /// Returns the value in the graph, whatever its layout.
    pub(super) fn computed(&self) -> Option<ValueId> {
        match self {
            Self::Data(value) => Some(*value),
            Self::View(view) => Some(view.value),
            _ => None,
        }
    }

    /// Returns a description for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Data(_) => "a computed value",
            Self::View(_) => "a computed value in another layout",
            Self::Foreign(_) => "the output of an operator outside the graph",
            Self::Quantised { .. } => "a quantised value",
            Self::Tensor(_) => "a float constant",
            Self::Bytes(_) => "an 8-bit constant",
            Self::Weight(_) => "quantised weights",
            Self::Integers { .. } => "an integer constant",
            Self::Other(what) => what,
            Self::Unknown => "the output of a node that is not supported",
        }
    }
}

/// The reason why a node was not converted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Unsupported, but possibly valid ONNX. The node is listed in the error.
    Unsupported(String),
    /// Invalid ONNX, as far as can be determined here. The node is listed in the error, and cannot be part of an opaque
    /// step.
    Invalid(String),
    /// The node reads the output of a refused node, so there is nothing to report.
    Tainted,
    /// The file is wrong: the import ends.
    Error(OnnxError),
}

impl From<OnnxError> for Refusal {
    fn from(error: OnnxError) -> Self {
        Self::Error(error)
    }
}

/// Returns a refusal with a reason.
pub(super) fn unsupported<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(reason.into()))
}

/// Result of an operator's conversion.
pub(super) type Converted = Result<Value, Refusal>;

/// Returns an entry for the list of refused nodes.
pub(super) fn missing(node: &str, domain: &str, operator: &str, opset: i64, mut reason: String) -> Missing {
    // Lists in a file may be long, and every refused node may quote one.
    if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    let operator = if domain.is_empty() {
        operator.to_owned()
    } else {
        format!("{domain}.{operator}")
    };
    Missing {
        node: node.to_owned(),
        operator,
        opset,
        reason,
    }
}
