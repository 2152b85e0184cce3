//! Bounded reading of a file's bytes.
//!
//! A hostile model with messages of a few bytes could make the decoder allocate a hundred times the file's size. The
//! bytes are therefore walked once without allocating before they are decoded.

use std::{fs::File, io::Read as _, path::Path};

use prost::Message as _;

use crate::{OnnxError, foreign, proto::ModelProto};

/// Maximum bytes of a file, which is the limit of protocol buffers themselves.
const MAX_FILE: u64 = 1 << 31;
/// Maximum number of fields of all messages in a file.
const MAX_FIELDS: u64 = 4_000_000;
/// Maximum bytes of packed integers in a file.
const MAX_PACKED: u64 = 32 << 20;

/// Returns the bytes of a file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let fail = |source| OnnxError::Io {
        path: path.to_owned(),
        source,
    };
    foreign::refuse_folder(path)?;
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let mut bytes = Vec::new();
    if length <= MAX_FILE {
        // The file may grow after its length was queried, so reading is limited to the cap.
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    }
    let got = length.max(bytes.len() as u64);
    if got > MAX_FILE {
        let origin = path.display().to_string();
        return Err(OnnxError::TooLarge {
            origin,
            what: "file bytes".into(),
            limit: MAX_FILE,
            got,
        });
    }
    Ok(bytes)
}

/// Returns the model in `bytes`.
pub(super) fn decode(bytes: &[u8], origin: &str) -> Result<ModelProto, OnnxError> {
    let mut budget = Budget::default();
    let walked = walk(Kind::Model, bytes, &mut budget);
    let caps = [
        ("fields", MAX_FIELDS, budget.fields),
        ("bytes of packed integers", MAX_PACKED, budget.packed),
    ];
    for (what, limit, got) in caps {
        if got > limit {
            return Err(OnnxError::TooLarge {
                origin: origin.to_owned(),
                what: what.to_owned(),
                limit,
                got,
            });
        }
    }
    let malformed = |reason: String| OnnxError::Malformed {
        origin: origin.to_owned(),
        reason,
    };
    walked.ok_or_else(|| malformed("the bytes are cut short or are no protocol buffer".into()))?;
    ModelProto::decode(bytes).map_err(|error| malformed(error.to_string()))
}

#[derive(Default)]
struct Budget {
    fields: u64,
    packed: u64,
}

/// The kinds of messages that are decoded, as far as they are nested.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Sparse,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Entry,
}

enum Field {
    Message(Kind),
    Packed,
    Plain,
}

impl Kind {
    fn field(self, number: u64) -> Field {
        match (self, number) {
            (Self::Model, 7) => Field::Message(Self::Graph),
            (Self::Model, 25) => Field::Message(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Field::Message(Self::Node),
            (Self::Graph | Self::Attribute, 5) | (Self::Sparse, 1 | 2) => Field::Message(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22) => Field::Message(Self::Sparse),
            (Self::Graph, 11 | 12) => Field::Message(Self::ValueInfo),
            (Self::Node, 5) | (Self::Function, 11) => Field::Message(Self::Attribute),
            (Self::Attribute, 8) | (Self::Tensor, 1 | 5 | 7) | (Self::Sparse, 3) => Field::Packed,
            (Self::ValueInfo, 2) => Field::Message(Self::Type),
            (Self::Type, 1) => Field::Message(Self::TensorType),
            (Self::TensorType, 2) => Field::Message(Self::Shape),
            (Self::Model, 8 | 14) | (Self::Function, 9) | (Self::Shape, 1) | (Self::Tensor, 13) => {
                Field::Message(Self::Entry)
            }
            _ => Field::Plain,
        }
    }
}

/// Counts what a decoder would allocate for `bytes`. Returns `None` if they are malformed or exceed the budget.
fn walk(kind: Kind, mut bytes: &[u8], budget: &mut Budget) -> Option<()> {
    while !bytes.is_empty() {
        budget.fields += 1;
        if budget.fields > MAX_FIELDS || budget.packed > MAX_PACKED {
            return None;
        }
        let key = varint(&mut bytes)?;
        let skip = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            5 => 4,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let content = bytes.get(..length)?;
                match kind.field(key >> 3) {
                    Field::Message(inner) => walk(inner, content, budget)?,
                    Field::Packed => budget.packed += length as u64,
                    Field::Plain => {}
                }
                length
            }
            _ => return None,
        };
        bytes = bytes.get(skip..)?;
    }
    (budget.packed <= MAX_PACKED).then_some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
