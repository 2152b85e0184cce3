//! Resize and Upsample of maps.

use super::super::{
    Import,
    attributes::Source,
    value::{Converted, Dim, Refusal, Value, unsupported},
    view::{Part, View},
};
use crate::{
    Shape,
    graph::Op,
    resize::{Coordinates, Resize, ResizeMode, ResizeTarget, Rounding},
};

/// Repeats pixels up to `size`.
pub(super) fn nearest(size: [usize; 2]) -> Resize {
    Resize {
        target: ResizeTarget::Size(size),
        mode: ResizeMode::Nearest(Rounding::Floor),
        coordinates: Coordinates::Asymmetric,
    }
}

/// Converts Resize and Upsample. The scales are the second input before opset 11, and the third since; the fourth input
/// is the sizes.
pub(super) fn resize<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    source.allow(&[
        "antialias",
        "axes",
        "coordinate_transformation_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "extrapolation_value",
        "keep_aspect_ratio_policy",
        "mode",
        "nearest_mode",
    ])?;
    if source.flag("antialias", false)? {
        return unsupported("anti-aliasing");
    }
    let policy = source.text("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        return unsupported(format!("keep_aspect_ratio_policy `{policy}`"));
    }
    let old = source.opset < 11;
    let mode = mode(source, old)?;
    let coordinates = coordinates(source, old)?;
    let view = import.view(source, 0)?;
    let target = target(import, source, &view, old)?;
    let resize = Resize {
        target,
        mode,
        coordinates,
    };
    if let Shape::Map([_, height, width]) = import.shape(view.value)
        && resize.output([height, width]) == [height, width]
        && !matches!(resize.target, ResizeTarget::Scale(scale) if scale != [1.0; 2])
    {
        return import.value(source, 0);
    }
    import.push_on(source, Op::Resize(resize), &view)
}

fn mode(source: Source<'_>, old: bool) -> Result<ResizeMode, Refusal> {
    Ok(match source.text("mode", "nearest")? {
        "nearest" => ResizeMode::Nearest(match source.text("nearest_mode", "round_prefer_floor")? {
            _ if old => Rounding::Floor,
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return unsupported(format!("nearest_mode `{other}`")),
        }),
        "linear" | "bilinear" => ResizeMode::Bilinear,
        other => return unsupported(format!("mode `{other}`: expected nearest or linear")),
    })
}

fn coordinates(source: Source<'_>, old: bool) -> Result<Coordinates, Refusal> {
    Ok(match source.text("coordinate_transformation_mode", "half_pixel")? {
        _ if old => Coordinates::Asymmetric,
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        other => return unsupported(format!("coordinate_transformation_mode `{other}`")),
    })
}

fn target<'a>(import: &mut Import<'a>, source: Source<'a>, view: &View, old: bool) -> Result<ResizeTarget, Refusal> {
    let rank = view.rank();
    let axes: Vec<usize> = match source.ints("axes") {
        Some(axes) => super::reshape::normalise(axes, rank).unwrap_or_default(),
        None => (0..rank).collect(),
    };
    let scales = match import.optional(source, if old { 1 } else { 2 })? {
        Some(Value::Tensor(scales)) if !scales.data().is_empty() => Some(scales),
        Some(Value::Tensor(_)) | None => None,
        Some(other) => return unsupported(format!("scales: expected constants, got {}", other.describe())),
    };
    if let Some(scales) = scales {
        let mut factors = [1.0; 2];
        if scales.data().len() != axes.len() {
            return unsupported(format!("{} scales for {} axes", scales.data().len(), axes.len()));
        }
        for (&axis, &scale) in axes.iter().zip(scales.data()) {
            match view.part(axis) {
                Some(Part::Rows) => factors[0] = scale,
                Some(Part::Columns) => factors[1] = scale,
                _ if scale == 1.0 => {}
                _ => return unsupported(format!("a scale of {scale} along axis {axis}")),
            }
        }
        return Ok(ResizeTarget::Scale(factors));
    }
    let sizes = match import.optional(source, 3)? {
        Some(Value::Integers { values, .. }) if values.len() == axes.len() => values,
        _ => return unsupported("expected scales, or a size for every axis"),
    };
    let Some(mut size) = import.shape(view.value).spatial() else {
        return unsupported(format!("of {}", view.describe()));
    };
    let dims = view.dims();
    for (&axis, &wanted) in axes.iter().zip(&sizes) {
        let known = match wanted {
            Dim::Known(size) => usize::try_from(size).ok(),
            Dim::Batch(_) => None,
        };
        match (view.part(axis), known) {
            (Some(Part::Rows), Some(wanted)) => size[0] = wanted,
            (Some(Part::Columns), Some(wanted)) => size[1] = wanted,
            (_, Some(wanted)) if axis > 0 && wanted == dims[axis - 1] => {}
            _ if axis == 0 => {}
            _ => return unsupported(format!("to {wanted:?} along axis {axis}")),
        }
    }
    Ok(ResizeTarget::Size(size))
}
