//! Simplification: steps absorb earlier steps, such as padding and moved channels.

use std::collections::{HashMap, HashSet};

use super::{Step, StepOp};
use crate::{Op, PadMode, Padding, Shape, ValueId};

/// Moves padding into convolutions, and lets gathers read the inputs of earlier gathers. Steps that become unused are
/// not removed here.
pub(super) fn simplify(steps: &mut [Step], shapes: &[Shape], features: ValueId) {
    pad_in_convolutions(steps);
    join_gathers(steps, shapes, features);
}

/// Moves a separate Pad, as exporters write for TensorFlow's SAME padding, into its convolution.
fn pad_in_convolutions(steps: &mut [Step]) {
    let zeros = steps.iter().filter_map(|step| match step.op {
        StepOp::Node(Op::Pad {
            pads,
            mode: PadMode::Constant(0.0),
        }) if step.grid.is_none() => Some((step.output, (pads, step.inputs[0]))),
        _ => None,
    });
    let zeros: HashMap<ValueId, ([usize; 4], ValueId)> = zeros.collect();
    for step in steps {
        let StepOp::Conv(conv) = &mut step.op else { continue };
        let Padding::Explicit(own) = conv.conv.padding else {
            continue;
        };
        let Some(&(more, source)) = zeros.get(&step.inputs[0]) else {
            continue;
        };
        let pads: [usize; 4] = std::array::from_fn(|side| own[side] + more[side]);
        let reach = |axis: usize| (conv.conv.kernel()[axis] - 1) * conv.conv.dilation[axis];
        // With more zeros, some results would depend only on padding.
        if (0..4).all(|side| pads[side] <= reach(side % 2)) {
            conv.pads = pads;
            conv.conv.padding = Padding::Explicit(pads);
            step.inputs[0] = source;
        }
    }
}

/// A channel of a value.
type Channel = (ValueId, u32);

/// Removes gathers whose readers are all gathers. The readers then read the removed gather's inputs directly.
fn join_gathers(steps: &mut [Step], shapes: &[Shape], features: ValueId) {
    let mut needed = HashSet::from([features]);
    for step in steps.iter().filter(|step| !matches!(step.op, StepOp::Gather { .. })) {
        needed.extend(&step.inputs);
    }
    // Steps are in order, so the inputs of a gather are already resolved.
    let mut moved: HashMap<ValueId, Vec<Channel>> = HashMap::new();
    for step in steps {
        let StepOp::Gather { index } = &mut step.op else {
            continue;
        };
        let offered = step.inputs.iter().flat_map(|input| match moved.get(input) {
            Some(channels) => channels.clone(),
            None => (0..shapes[input.0].channels() as u32)
                .map(|channel| (*input, channel))
                .collect(),
        });
        let offered: Vec<Channel> = offered.collect();
        let channels: Vec<Channel> = index.iter().map(|&at| offered[at as usize]).collect();
        let mut inputs: Vec<ValueId> = Vec::new();
        for (value, _) in &channels {
            if !inputs.contains(value) {
                inputs.push(*value);
            }
        }
        let offsets: HashMap<ValueId, u32> = inputs
            .iter()
            .scan(0, |end, input| {
                let start = *end;
                *end += shapes[input.0].channels() as u32;
                Some((*input, start))
            })
            .collect();
        *index = channels
            .iter()
            .map(|(value, channel)| offsets[value] + channel)
            .collect();
        step.inputs = inputs;
        // A gather that rounds has other values than its inputs.
        if !needed.contains(&step.output) && step.grid.is_none() {
            moved.insert(step.output, channels);
        }
    }
}
