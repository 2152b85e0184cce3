//! Operators that keep a value per-channel.

use std::collections::HashMap;

use super::{
    Batch, Channel, Column, PerChannel, Row,
    walk::{Walk, attribute},
};
use crate::{
    in_graph::Lane,
    proto::{NodeProto, TensorProto},
};

impl Walk<'_> {
    pub(super) fn norm(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let training = attribute(node, "training_mode")
            .and_then(|attribute| attribute.i)
            .unwrap_or(0)
            != 0;
        if training || value.integer || value.axes.get(1) != Some(&Channel) {
            return None;
        }
        let epsilon = attribute(node, "epsilon")
            .and_then(|attribute| attribute.f)
            .unwrap_or(1e-5);
        let part = |index| {
            self.floats(node, index)
                .map(|(_, values)| values)
                .filter(|values| values.len() == value.lanes.len())
        };
        let (gamma, beta, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        Some(arithmetic(value, |lane, index| {
            let scale = gamma[index] / (variance[index] + f64::from(epsilon)).sqrt();
            (lane.scale * scale, (lane.bias - mean[index]) * scale + beta[index])
        }))
    }

    /// Returns the result of a 1×1 convolution in which every output reads a single channel.
    pub(super) fn convolution(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let ints = |name: &str, expected: i64| {
            attribute(node, name).is_none_or(|attribute| attribute.ints.iter().all(|&value| value == expected))
        };
        let plain = ints("pads", 0) && ints("strides", 1);
        if !plain || value.integer || value.axes != [Batch, Channel, Row, Column] {
            return None;
        }
        let (dims, weights) = self.floats(node, 1)?;
        let &[outputs, per_group, 1, 1] = &dims[..] else {
            return None;
        };
        let group = attribute(node, "group").and_then(|attribute| attribute.i).unwrap_or(1);
        let group = usize::try_from(group).ok().filter(|&group| group > 0)?;
        if per_group * group != value.lanes.len() || outputs % group != 0 {
            return None;
        }
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(_) => self.floats(node, 2)?.1,
            None => vec![0.0; outputs],
        };
        let lanes = (0..outputs).map(|output| {
            let row = &weights[output * per_group..(output + 1) * per_group];
            let mut used = row.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
            let (Some((place, weight)), None) = (used.next(), used.next()) else {
                return None;
            };
            let lane = value.lanes.get(output / (outputs / group) * per_group + place)?;
            Some(Lane {
                source: lane.source,
                scale: lane.scale * weight,
                bias: lane.bias * weight + bias.get(output)?,
            })
        });
        let lanes = lanes.collect::<Option<Vec<_>>>()?;
        Some(vec![PerChannel { lanes, ..value.clone() }])
    }

    pub(super) fn unsqueeze(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let axes = match attribute(node, "axes") {
            Some(attribute) => attribute.ints.clone(),
            None => self.integers(node, 1)?.1,
        };
        // Only restores the channel axis that a Gather with a single index removed.
        let (&[axis], 1, false) = (&axes[..], value.lanes.len(), value.axes.contains(&Channel)) else {
            return None;
        };
        let mut axes = value.axes.clone();
        axes.insert(place(axis, axes.len() + 1)?, Channel);
        Some(vec![PerChannel { axes, ..value.clone() }])
    }

    pub(super) fn gather(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let axis = channel_axis(node, value)?;
        let (dims, indices) = self.integers(node, 1)?;
        let lanes = indices
            .iter()
            .map(|&index| value.lanes.get(place(index, value.lanes.len())?).copied());
        let lanes = lanes.collect::<Option<Vec<_>>>()?;
        let mut axes = value.axes.clone();
        match dims.len() {
            0 => drop(axes.remove(axis)),
            1 => {}
            _ => return None,
        }
        Some(vec![PerChannel {
            lanes,
            axes,
            integer: value.integer,
        }])
    }

    /// Returns channels selected from the first axis, as PyTorch's newer exporter writes `x[:, [2, 1, 0]]` between two
    /// transposes.
    pub(super) fn gather_nd(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let batched = attribute(node, "batch_dims")
            .and_then(|attribute| attribute.i)
            .unwrap_or(0)
            != 0;
        let (dims, indices) = self.integers(node, 1)?;
        if batched || value.axes.first() != Some(&Channel) || dims.len() != 2 || dims[1] != 1 {
            return None;
        }
        let count = value.lanes.len();
        let lanes = indices
            .iter()
            .map(|&index| value.lanes.get(place(index, count)?).copied());
        let lanes = lanes.collect::<Option<Vec<_>>>()?;
        Some(vec![PerChannel { lanes, ..value.clone() }])
    }

    pub(super) fn slice(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        let list = |name: &str, index: usize| match attribute(node, name) {
            Some(attribute) => Some(attribute.ints.clone()),
            None => self.integers(node, index).map(|(_, values)| values),
        };
        let (starts, ends) = (list("starts", 1)?, list("ends", 2)?);
        let axes = list("axes", 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
        let (&[start], &[end], &[axis], &[step]) = (&starts[..], &ends[..], &axes[..], &steps[..]) else {
            return None;
        };
        if value.axes.get(place(axis, value.axes.len())?) != Some(&Channel) {
            return None;
        }
        let count = value.lanes.len() as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(count) } else { index };
        let lanes = match step {
            1 => {
                let (start, end) = (from_end(start).clamp(0, count), from_end(end).clamp(0, count));
                value.lanes.get(start as usize..end as usize)?.to_vec()
            }
            -1 => {
                let (start, end) = (from_end(start).clamp(-1, count - 1), from_end(end).clamp(-1, count - 1));
                let mut lanes = value
                    .lanes
                    .get((end + 1) as usize..=usize::try_from(start).ok()?)?
                    .to_vec();
                lanes.reverse();
                lanes
            }
            _ => return None,
        };
        (!lanes.is_empty()).then(|| vec![PerChannel { lanes, ..value.clone() }])
    }

    pub(super) fn split(&self, node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
        channel_axis(node, value)?;
        let sizes = match attribute(node, "split") {
            Some(attribute) => attribute.ints.clone(),
            None if node.input.get(1).is_some_and(|name| !name.is_empty()) => self.integers(node, 1)?.1,
            None => vec![(value.lanes.len() / node.output.len().max(1)) as i64; node.output.len()],
        };
        let mut rest = &value.lanes[..];
        let mut parts = Vec::new();
        for size in sizes {
            let (part, others) = rest.split_at_checked(usize::try_from(size).ok()?)?;
            rest = others;
            parts.push(PerChannel {
                lanes: part.to_vec(),
                ..value.clone()
            });
        }
        (rest.is_empty() && parts.len() == node.output.len()).then_some(parts)
    }
}

/// Returns an axis or index; a negative one counts from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(length as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&index| index < length)
}

pub(super) fn arithmetic(value: &PerChannel, change: impl Fn(&Lane, usize) -> (f64, f64)) -> Vec<PerChannel> {
    let lanes = value.lanes.iter().enumerate().map(|(index, lane)| {
        let (scale, bias) = change(lane, index);
        Lane {
            source: lane.source,
            scale,
            bias,
        }
    });
    vec![PerChannel {
        lanes: lanes.collect(),
        ..value.clone()
    }]
}

pub(super) fn cast(node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
    let to = i32::try_from(attribute(node, "to")?.i?).ok()?;
    let float = matches!(
        to,
        TensorProto::FLOAT | TensorProto::FLOAT16 | TensorProto::DOUBLE | TensorProto::BFLOAT16
    );
    float.then(|| {
        vec![PerChannel {
            integer: false,
            ..value.clone()
        }]
    })
}

pub(super) fn transpose(node: &NodeProto, value: &PerChannel) -> Option<Vec<PerChannel>> {
    let perm = &attribute(node, "perm")?.ints;
    let axes = perm
        .iter()
        .map(|&axis| value.axes.get(place(axis, value.axes.len())?).copied());
    let axes = axes.collect::<Option<Vec<_>>>()?;
    (axes.len() == value.axes.len()).then(|| vec![PerChannel { axes, ..value.clone() }])
}

pub(super) fn concat(node: &NodeProto, values: &HashMap<String, PerChannel>) -> Option<PerChannel> {
    let parts = node
        .input
        .iter()
        .map(|name| values.get(name))
        .collect::<Option<Vec<_>>>()?;
    let first = parts.first()?;
    let axis = place(attribute(node, "axis")?.i?, first.axes.len())?;
    let alike = parts
        .iter()
        .all(|part| part.axes == first.axes && part.integer == first.integer);
    (alike && first.axes[axis] == Channel).then(|| PerChannel {
        lanes: parts.iter().flat_map(|part| part.lanes.clone()).collect(),
        ..(*first).clone()
    })
}

/// Returns the axis of a Gather or Split, if it is the channel axis.
fn channel_axis(node: &NodeProto, value: &PerChannel) -> Option<usize> {
    let stated = attribute(node, "axis").and_then(|attribute| attribute.i).unwrap_or(0);
    place(stated, value.axes.len()).filter(|&axis| value.axes.get(axis) == Some(&Channel))
}
