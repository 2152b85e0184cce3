//! `QuantizeLinear` and `DequantizeLinear` (opset 13): values on a grid of 256 values, and integer constants.

use std::collections::HashSet;

use super::super::{
    Import,
    attributes::Source,
    order,
    value::{Bytes, Converted, Dim, Refusal, Value, unsupported},
};
use crate::{Quantisation, QuantisedTensor, Tensor, ValueId, graph::Op, proto::NodeProto, quantisation::dequantised};

/// Difference between the integers of a grid in `int8` and in `uint8`.
const OFFSET: i32 = 128;

/// Scales and zero points of a node. There is one of each, or one for each index of an axis.
struct Grid {
    scale: Tensor,
    /// As `int8`; all zero if the node has none.
    zero_points: Vec<i32>,
    signed: bool,
}

impl Grid {
    /// Reads inputs 1 and 2. Without a zero point, the integers have the sign of `signed`.
    fn read<'a>(import: &mut Import<'a>, source: Source<'a>, signed: bool) -> Result<Self, Refusal> {
        let scale = import.tensor(source, 1)?;
        let (zero_points, signed) = match import.optional(source, 2)? {
            None => (vec![0; scale.data().len()], signed),
            Some(Value::Bytes(bytes)) => (bytes.integers().collect(), bytes.signed),
            // The zero point of an integer bias.
            Some(Value::Integers { values, .. }) if values.iter().all(|value| *value == Dim::Known(0)) => {
                (vec![0; values.len()], true)
            }
            Some(other) => {
                return unsupported(format!("zero point: expected int8 or uint8, got {}", other.describe()));
            }
        };
        if zero_points.len() != scale.data().len() {
            return unsupported(format!(
                "expected as many zero points as scales, got {} and {}",
                zero_points.len(),
                scale.data().len()
            ));
        }
        Ok(Self {
            scale,
            zero_points,
            signed,
        })
    }

    /// Returns the grid of a computed value, which has one scale for all channels.
    fn single(&self) -> Result<Quantisation, Refusal> {
        let (&[scale], &[zero_point]) = (self.scale.data(), &self.zero_points[..]) else {
            return unsupported(format!(
                "of a computed value with {} scales: expected one for all channels",
                self.scale.data().len()
            ));
        };
        let grid = Quantisation {
            scale,
            zero_point: (zero_point + if self.signed { OFFSET } else { 0 }) as u8,
        };
        grid.check().map_err(Refusal::Invalid)?;
        Ok(grid)
    }

    /// Returns the position of the scale of each element of a constant of shape `dims`.
    fn positions(&self, source: Source<'_>, dims: &[usize]) -> Result<impl Fn(usize) -> usize + use<>, Refusal> {
        let count = self.scale.data().len();
        let rank = dims.len() as i64;
        let axis = source.int("axis", 1)?;
        let axis = usize::try_from(if axis < 0 { axis.saturating_add(rank) } else { axis }).ok();
        let inner = match axis {
            _ if count == 1 => dims.iter().product::<usize>().max(1),
            Some(axis) if dims.get(axis) == Some(&count) && self.scale.shape().len() <= 1 => {
                dims[axis + 1..].iter().product()
            }
            _ => return unsupported(format!("{count} scales for a constant of {dims:?} along axis {axis:?}")),
        };
        Ok(move |element: usize| element / inner.max(1) % count)
    }
}

/// Attributes that newer opsets have with these defaults.
fn check_attributes(source: Source<'_>) -> Result<(), Refusal> {
    source.allow(&["axis", "block_size", "output_dtype", "precision", "saturate"])?;
    match source.int("block_size", 0)? {
        0 => Ok(()),
        size => unsupported(format!(
            "scales for blocks of {size} values: expected one for each channel"
        )),
    }
}

/// Converts `QuantizeLinear`. The result of a computed value stands for the rounded real values.
pub(super) fn quantise<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    check_attributes(source)?;
    let signed = match source.int("output_dtype", 0)? {
        0 | 2 => false,
        3 => true,
        other => return unsupported(format!("output_dtype {other}: expected int8 or uint8")),
    };
    let grid = Grid::read(import, source, signed)?;
    if let Value::Tensor(tensor) = import.value(source, 0)? {
        return constant(import, source, &grid, &tensor);
    }
    let view = import.view(source, 0)?;
    let single = grid.single()?;
    let rounded = if import.grid(view.value) == Some(single) {
        import.settled(source, view)
    } else {
        import.push_on(source, Op::FakeQuantise(single), &view)?
    };
    Ok(Value::Quantised {
        real: Box::new(rounded),
        signed: grid.signed,
    })
}

/// Quantises a constant, as training with simulated quantisation exports its weights.
fn constant<'a>(import: &mut Import<'a>, source: Source<'a>, grid: &Grid, tensor: &Tensor) -> Converted {
    import.budget.make(tensor.data().len())?;
    let position = grid.positions(source, tensor.shape())?;
    let [low, high] = if grid.signed { [-128.0, 127.0] } else { [0.0, 255.0] };
    let bytes = tensor.data().iter().enumerate().map(|(index, value)| {
        let at = position(index);
        let rounded = (value / grid.scale.data()[at]).round_ties_even() + grid.zero_points[at] as f32;
        rounded.clamp(low, high) as i32 as u8
    });
    Ok(Value::Bytes(Bytes {
        dims: tensor.shape().to_vec(),
        signed: grid.signed,
        values: bytes.collect(),
    }))
}

/// Converts `DequantizeLinear`.
pub(super) fn dequantise<'a>(import: &mut Import<'a>, source: Source<'a>) -> Converted {
    check_attributes(source)?;
    match import.value(source, 0)? {
        Value::Quantised { real, signed } => {
            let own = real.computed().and_then(|value| import.grid(value));
            let grid = Grid::read(import, source, signed)?.single()?;
            if own != Some(grid) {
                return unsupported(format!(
                    "expected the scale and the zero point with which its input was quantised, got {} and {}",
                    grid.scale, grid.zero_point
                ));
            }
            Ok(*real)
        }
        Value::Bytes(bytes) => {
            let grid = Grid::read(import, source, bytes.signed)?;
            import.budget.make(bytes.values.len())?;
            weights(import, source, &grid, &bytes)
        }
        Value::Integers { dims, values } => {
            let grid = Grid::read(import, source, true)?;
            let position = grid.positions(source, &dims)?;
            let real = values.iter().enumerate().map(|(index, value)| match value {
                Dim::Known(value) => Some(dequantised(*value, grid.scale.data()[position(index)])),
                Dim::Batch(_) => None,
            });
            match real.collect::<Option<Vec<f32>>>() {
                Some(real) => Ok(Value::Tensor(Tensor::new(dims, real))),
                None => unsupported("of a value that depends on the batch"),
            }
        }
        other => unsupported(format!("input 0: expected integers, got {}", other.describe())),
    }
}

/// Returns integer weights if a convolution reads them and they are symmetric, otherwise the real values.
fn weights<'a>(import: &mut Import<'a>, source: Source<'a>, grid: &Grid, bytes: &Bytes) -> Converted {
    let position = grid.positions(source, &bytes.dims)?;
    let integer = |(index, value): (usize, i32)| value - grid.zero_points[position(index)];
    let integers = || bytes.integers().enumerate().map(integer);
    let scale = grid.scale.data();
    if source
        .proto
        .output
        .first()
        .is_some_and(|output| import.conv_weights.contains(output.as_str()))
    {
        let channels = bytes.dims.first().copied().unwrap_or(0);
        let along = scale.len() == 1 || source.int("axis", 1)? == 0;
        let small: Option<Vec<i8>> = integers().map(|value| i8::try_from(value).ok()).collect();
        match small {
            Some(values) if along && bytes.dims.len() == 4 => {
                let scale: Vec<f32> = (0..channels).map(|channel| scale[channel % scale.len()]).collect();
                return Ok(Value::Weight(QuantisedTensor::new(&bytes.dims[..], values, scale)));
            }
            _ => import.float_weights += 1,
        }
    }
    let real = integers()
        .enumerate()
        .map(|(index, value)| value as f32 * scale[position(index)]);
    Ok(Value::Tensor(Tensor::new(&bytes.dims[..], real.collect::<Vec<_>>())))
}

/// Returns the names that the nodes read as weights of convolutions only.
pub(in super::super) fn conv_weights(nodes: &[NodeProto]) -> HashSet<&str> {
    let is_weight = |node: &NodeProto, index: usize| index == 1 && node.op_type.as_deref() == Some("Conv");
    let reads = || {
        nodes
            .iter()
            .flat_map(|node| node.input.iter().enumerate().map(move |(at, name)| (node, at, name)))
    };
    let mut names: HashSet<&str> = HashSet::new();
    names.extend(
        reads()
            .filter(|(node, at, _)| is_weight(node, *at))
            .map(|(_, _, name)| name.as_str()),
    );
    for (_, _, name) in reads().filter(|(node, at, _)| !is_weight(node, *at)) {
        names.remove(name.as_str());
    }
    names
}

/// Returns whether an operator only moves or compares values, so that it does the same to integers and real values.
pub(in super::super) fn moves(operator: &str) -> bool {
    matches!(
        operator,
        "Concat"
            | "Flatten"
            | "Gather"
            | "Identity"
            | "MaxPool"
            | "Reshape"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Transpose"
            | "Unsqueeze"
    )
}

impl<'a> Import<'a> {
    /// Replaces quantised inputs of a node by their real values. Returns the replaced names and values.
    pub(in super::super) fn with_real_inputs(&mut self, source: Source<'a>) -> Vec<(&'a str, Value)> {
        let mut replaced = Vec::new();
        for name in order::inputs(source.proto) {
            if let Some(Value::Quantised { real, .. }) = self.values.get(name) {
                let real = (**real).clone();
                replaced.extend(self.values.insert(name, real).map(|value| (name, value)));
            }
        }
        replaced
    }

    /// Returns the grid on which a value lies.
    fn grid(&self, value: ValueId) -> Option<Quantisation> {
        self.grids[value.0]
    }

    /// Returns a note on weights that are integers in the file and floats in the backbone.
    pub(in super::super) fn float_weights_note(&self) -> Option<String> {
        (self.float_weights > 0).then(|| {
            format!(
                "the weights of {} convolutions are not symmetric integers of 8 bits with a scale for each output channel: \
                 these run in float",
                self.float_weights
            )
        })
    }
}
