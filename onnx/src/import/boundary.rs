//! The model's outside: opset, the one picture that goes in and the one tensor that comes out.

use std::collections::HashSet;

use crate::{
    OnnxError,
    proto::{GraphProto, OperatorSetIdProto, TensorProto, ValueInfoProto},
    validate::MAX_PIXELS,
};

/// Said of networks that read grey images.
const GREY: &str = "one channel, for grey images; expected 3 channels, RGB\nhint: export it with a frozen conversion in front: \
                    torch.nn.Sequential(grey, model), where grey = torch.nn.Conv2d(3, 1, 1, bias=False) with the weights 0.299, 0.587, 0.114";

/// The picture input.
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    /// The batch, if the file fixes it.
    pub(super) batch: Option<i64>,
    pub(super) channels: usize,
    /// Rows, columns.
    pub(super) size: [u32; 2],
}

/// The version of the default operator set, which must be 11–21.
pub(super) fn opset(sets: &[OperatorSetIdProto], origin: &str) -> Result<i64, OnnxError> {
    let default = sets
        .iter()
        .filter(|set| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx")));
    let got = default.filter_map(|set| set.version).max();
    got.filter(|version| (11..=21).contains(version))
        .ok_or_else(|| OnnxError::Opset {
            origin: origin.to_owned(),
            got,
        })
}

/// The version of another operator set, 0 if the file does not import it.
pub(super) fn version(sets: &[OperatorSetIdProto], domain: &str) -> i64 {
    let set = sets.iter().find(|set| set.domain.as_deref() == Some(domain));
    set.and_then(|set| set.version).unwrap_or(0)
}

/// The one input that is not an initialiser: `[N, 3, H, W]`, float, with fixed H and W.
pub(super) fn image<'a>(
    graph: &'a GraphProto,
    constants: &HashSet<&str>,
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
    if !matches!(
        tensor.elem_type,
        Some(TensorProto::FLOAT | TensorProto::FLOAT16 | TensorProto::DOUBLE)
    ) {
        return Err(fail(format!(
            "`{name}`: expected floats (element type 1), got element type {}",
            tensor.elem_type.unwrap_or(0)
        )));
    }
    let shape = tensor
        .shape
        .as_ref()
        .ok_or_else(|| fail(format!("the shape of `{name}` is not known")))?;
    let dims: Vec<Option<i64>> = shape
        .dim
        .iter()
        .map(|dim| dim.dim_value.filter(|_| dim.dim_param.is_none()))
        .collect();
    let text = || {
        let dim = shape
            .dim
            .iter()
            .map(|dim| match (dim.dim_value, dim.dim_param.as_deref()) {
                (_, Some(name)) => name.to_owned(),
                (Some(value), None) => value.to_string(),
                (None, None) => "?".to_owned(),
            });
        format!("[{}]", dim.collect::<Vec<_>>().join(", "))
    };
    let &[batch, channels, height, width] = &dims[..] else {
        return Err(fail(format!("`{name}`: expected [N, 3, H, W], got {}", text())));
    };
    if width == Some(3) && channels != Some(3) {
        return Err(fail(format!(
            "`{name}` is {}: channels come last, expected [N, 3, H, W]",
            text()
        )));
    }
    let (Some(height), Some(width)) = (height, width) else {
        return Err(fail(format!("`{name}` is {}: the height or width is dynamic", text())));
    };
    let side = |value: i64| u32::try_from(value).ok().filter(|side| (1..=MAX_PIXELS).contains(side));
    match (channels, side(height), side(width)) {
        (Some(3), Some(height), Some(width)) => Ok(Image {
            name,
            batch,
            channels: 3,
            size: [height, width],
        }),
        (Some(3), ..) => Err(fail(format!(
            "`{name}` is {}: expected sides of 1 to {MAX_PIXELS} pixels",
            text()
        ))),
        (Some(1), ..) => Err(fail(format!("`{name}` is {}: {GREY}", text()))),
        _ => Err(fail(format!("`{name}` is {}: expected 3 channels", text()))),
    }
}

/// The name of the one output.
pub(super) fn output<'a>(graph: &'a GraphProto, origin: &str) -> Result<&'a str, OnnxError> {
    let names: Vec<&str> = graph
        .output
        .iter()
        .map(|output| output.name.as_deref().unwrap_or(""))
        .collect();
    let [name] = names[..] else {
        let reason = format!("expected 1, got {}: {}", names.len(), names.join(", "));
        return Err(OnnxError::Output {
            origin: origin.to_owned(),
            reason,
        });
    };
    Ok(name)
}
