//! Interface of the model: its opset and image input.

use std::collections::HashSet;

use crate::{
    OnnxError,
    limits::MAX_PIXELS,
    proto::{DimensionProto, GraphProto, NodeProto, OperatorSetIdProto, TensorShapeProto, ValueInfoProto},
};

use super::constant::FLOATS;

/// The image input.
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    /// The batch size, if the file fixes it.
    pub(super) batch: Option<i64>,
    pub(super) channels: usize,
    /// Rows, columns.
    pub(super) size: [u32; 2],
    /// Whether the file's input is `[N, H, W, C]`.
    pub(super) channels_last: bool,
}

/// The oldest supported opset: since version 7, operators broadcast as they do today.
const OLDEST_OPSET: i64 = 7;
/// The newest existing opset. Of the supported operators, versions 25–28 only changed the types.
const NEWEST_OPSET: i64 = 28;

/// Returns the version of the default operator set.
pub(super) fn opset(sets: &[OperatorSetIdProto], origin: &str) -> Result<i64, OnnxError> {
    let default = sets
        .iter()
        .filter(|set| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx")));
    let got = default.filter_map(|set| set.version).max();
    got.filter(|version| (OLDEST_OPSET..=NEWEST_OPSET).contains(version))
        .ok_or_else(|| OnnxError::Opset {
            origin: origin.to_owned(),
            got,
        })
}

/// Returns the version of another operator set; 0 if the file does not import it.
pub(super) fn version(sets: &[OperatorSetIdProto], domain: &str) -> i64 {
    let set = sets.iter().find(|set| set.domain.as_deref() == Some(domain));
    set.and_then(|set| set.version).unwrap_or(0)
}

/// Returns the single input that is not an initialiser: `[N, 3, H, W]` or `[N, H, W, 3]`, or with one channel, float.
/// `size` (rows, columns) sets an open H and W.
pub(super) fn image<'a>(
    graph: &'a GraphProto,
    constants: &HashSet<&str>,
    size: Option<[u32; 2]>,
    origin: &str,
) -> Result<Image<'a>, OnnxError> {
    let fail = |reason: String| OnnxError::Input {
        origin: origin.to_owned(),
        reason,
    };
    let name = |input: &'a ValueInfoProto| input.name.as_deref().unwrap_or("");
    let inputs: Vec<_> = graph
        .input
        .iter()
        .filter(|input| !constants.contains(name(input)))
        .collect();
    let [input] = inputs[..] else {
        let names: Vec<_> = inputs.iter().map(|input| format!("`{}`", name(input))).collect();
        return Err(fail(format!(
            "expected 1, got {}{}{}",
            names.len(),
            if names.is_empty() { "" } else { ": " },
            names.join(", ")
        )));
    };
    let name = name(input);
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| fail(format!("`{name}` is not a tensor")))?;
    if !tensor.elem_type.is_some_and(|kind| FLOATS.contains(&kind)) {
        return Err(fail(format!(
            "`{name}`: expected floats (element type 1), got element type {}",
            tensor.elem_type.unwrap_or(0)
        )));
    }
    // Some tools omit the shape. The first convolution then determines the channels.
    let open = [const { None }; 4];
    let dims: Vec<Option<i64>> = match &tensor.shape {
        Some(shape) => shape.dim.iter().map(known).collect(),
        None => open.to_vec(),
    };
    let text = tensor
        .shape
        .as_ref()
        .map_or_else(|| "of unknown shape".to_owned(), dimensions);
    let &[batch, channels, height, width] = &dims[..] else {
        return Err(fail(format!("`{name}`: expected [N, 3, H, W], got {text}")));
    };
    let first = matches!(channels, Some(3 | 1));
    let channels_last = width == Some(3) && channels != Some(3) || width == Some(1) && !first;
    let (channels, height, width) = if channels_last {
        (width, channels, height)
    } else {
        (channels, height, width)
    };
    let channels = channels.or_else(|| channels_read(graph, name));
    let channels = match channels {
        Some(3) => 3,
        Some(1) => 1,
        _ => return Err(fail(format!("`{name}` is {text}: expected 3 channels, or 1"))),
    };
    let side = |value: i64| u32::try_from(value).ok().filter(|side| (1..=MAX_PIXELS).contains(side));
    let stated = |axis: usize| size.map(|size| i64::from(size[axis]));
    match (height.or(stated(0)), width.or(stated(1))) {
        (Some(height), Some(width)) => match (side(height), side(width)) {
            (Some(height), Some(width)) => Ok(Image {
                name,
                batch,
                channels,
                size: [height, width],
                channels_last,
            }),
            _ => Err(fail(format!(
                "`{name}` is {text}: expected sides of 1 to {MAX_PIXELS} pixels"
            ))),
        },
        (height, width) => Err(OnnxError::OpenSize {
            origin: origin.to_owned(),
            input: name.to_owned(),
            shape: text,
            // The suggestion for an open side is the known side, or the usual one.
            suggestion: [height.or(width), width.or(height)].map(|side| side.unwrap_or(224)),
        }),
    }
}

/// Returns a dimension that the file fixes. Tools write an open dimension as a name, as nothing, or as −1 or 0.
fn known(dim: &DimensionProto) -> Option<i64> {
    dim.dim_value.filter(|&value| dim.dim_param.is_none() && value > 0)
}

/// Returns a shape for messages, such as `[batch, 3, 224, 224]`.
pub(super) fn dimensions(shape: &TensorShapeProto) -> String {
    let dims = shape
        .dim
        .iter()
        .map(|dim| match (dim.dim_value, dim.dim_param.as_deref()) {
            (_, Some(name)) => name.to_owned(),
            (Some(value), None) => value.to_string(),
            (None, None) => "?".to_owned(),
        });
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// Returns the number of channels read by a convolution on the image.
fn channels_read(graph: &GraphProto, image: &str) -> Option<i64> {
    let reads = |node: &&NodeProto| {
        node.op_type.as_deref() == Some("Conv") && node.input.first().is_some_and(|input| input == image)
    };
    let node = graph.node.iter().find(reads)?;
    let weight = node.input.get(1)?;
    let tensor = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name.as_ref() == Some(weight))?;
    let group = node
        .attribute
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some("group"));
    tensor
        .dims
        .get(1)?
        .checked_mul(group.and_then(|attribute| attribute.i).unwrap_or(1))
}
