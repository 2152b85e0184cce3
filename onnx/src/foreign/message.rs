//! Protocol buffers of other tools and truncated ONNX models, recognised by their top-level fields.

use super::Foreign;
use crate::message::quoted;

/// Maximum number of top-level fields that are examined.
const MAX_FIELDS: usize = 100_000;
/// Smallest field number that a Core ML model can use for its network.
const CORE_ML: u64 = 200;
const GRAPH: u64 = 7;

pub(super) fn recognise(bytes: &[u8], origin: &str) -> Option<Foreign> {
    if let Some(operator) = tensorflow_node(bytes) {
        return Some(Foreign::new(
            format!("a TensorFlow graph (its first node is a {operator}), expected ONNX"),
            format!(
                "convert it: pip install tf2onnx; python -m tf2onnx.convert --graphdef {} --inputs NAME:0 --outputs \
                 NAME:0 --opset 17 --output model.onnx",
                quoted(origin)
            ),
        ));
    }
    let fields = Fields::read(bytes);
    if origin.to_lowercase().ends_with(".caffemodel") {
        return Some(Foreign::new(
            "weights of Caffe by their name, expected ONNX",
            "give the network as ONNX, converted together with its .prototxt",
        ));
    }
    // A ModelProto starts with its version, and so do these two formats.
    if !matches!(bytes, [0x08, 1..=30, ..]) {
        return None;
    }
    if fields.numbers.iter().any(|&number| number >= CORE_ML) && !fields.numbers.contains(&GRAPH) {
        return Some(Foreign::compiled("a Core ML model, expected ONNX"));
    }
    if fields.numbers == [1, 2] && bytes.len() > 1000 {
        return Some(Foreign::new(
            "a TensorFlow SavedModel, expected ONNX",
            "convert its folder: pip install tf2onnx; python -m tf2onnx.convert --saved-model FOLDER --opset 17 --output model.onnx",
        ));
    }
    let (expected, got) = (fields.cut?, bytes.len() as u64);
    Some(Foreign::new(
        format!("an ONNX model that is cut short: expected at least {expected} bytes, got {got}"),
        "copy or download it again, and look for a full disk",
    ))
}

/// The fields at the top of a message.
struct Fields {
    /// Field numbers, with consecutive repetitions removed.
    numbers: Vec<u64>,
    /// End of the last field, if the bytes end before it.
    cut: Option<u64>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Self {
        let mut fields = Self {
            numbers: Vec::new(),
            cut: None,
        };
        let mut place = 0;
        for _ in 0..MAX_FIELDS {
            let Some(key) = varint(bytes, &mut place) else { break };
            if fields.numbers.last() != Some(&(key >> 3)) {
                fields.numbers.push(key >> 3);
            }
            let length = match key & 7 {
                0 => varint(bytes, &mut place).map(|_| 0),
                1 => Some(8),
                2 => varint(bytes, &mut place),
                5 => Some(4),
                _ => break,
            };
            let Some(end) = length.and_then(|length| (place as u64).checked_add(length)) else {
                break;
            };
            // The length is impossible for a protocol buffer, so the bytes are something else.
            if end > bytes.len() as u64 {
                fields.cut = Some(end).filter(|&end| end <= 1 << 31);
                break;
            }
            place = end as usize;
        }
        fields
    }
}

/// Returns the operator of the first node if the bytes start like a `GraphDef`: field 1 is a message with a name and an
/// operator.
fn tensorflow_node(bytes: &[u8]) -> Option<String> {
    let mut place = 1;
    (bytes.first() == Some(&0x0a)).then_some(())?;
    varint(bytes, &mut place)?;
    let mut text = |tag: u8| {
        (bytes.get(place) == Some(&tag)).then_some(())?;
        place += 1;
        let length = usize::try_from(varint(bytes, &mut place)?).ok()?;
        let text = std::str::from_utf8(bytes.get(place..place.checked_add(length)?)?).ok()?;
        place += length;
        Some(text.to_owned())
    };
    text(0x0a)?;
    let operator = text(0x12)?;
    (!operator.is_empty() && operator.len() < 64 && operator.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .then_some(operator)
}

fn varint(bytes: &[u8], place: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*place)?;
        *place += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
