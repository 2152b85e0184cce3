//! Convolutions of few channels in each group: of each channel alone, or of 8 or 16.
//!
//! Matrix products of such a group are too small to be fast. Each output plane is a sum of shifted input planes instead,
//! in the layout of [`Phases`].

use rayon::prelude::*;

use super::{phases::Phases, shape::ConvShape};
use crate::ops::vectors::{LANES, add_products, total, weighted_sum};

/// Largest number of channels of a group, of the input or the output.
const CHANNELS: usize = 16;

/// Values of the input of several images that stay in a core's cache.
const CACHED: usize = 1 << 13;

/// Returns whether a convolution has groups of few channels.
pub(super) fn applies(shape: &ConvShape) -> bool {
    shape.groups > 1 && shape.inputs.max(shape.outputs) <= CHANNELS * shape.groups
}

/// The channels of a group.
struct Group {
    inputs: usize,
    outputs: usize,
    /// Values of its weights.
    weights: usize,
    /// Values of its input and output planes in one image.
    planes: [usize; 2],
}

impl Group {
    fn new(shape: &ConvShape) -> Self {
        let [inputs, outputs] = [shape.inputs, shape.outputs].map(|channels| channels / shape.groups);
        Self {
            inputs,
            outputs,
            weights: inputs * outputs * shape.taps(),
            planes: [inputs * shape.input_plane(), outputs * shape.output_plane()],
        }
    }
}

/// Returns where the values of each weight of an output channel start: all positions of the kernel in all input channels.
fn starts(phases: &Phases, group: &Group) -> Vec<usize> {
    let inputs = (0..group.inputs).map(|input| input * phases.input);
    let starts = inputs.flat_map(|start| {
        let taps = phases.taps.iter();
        taps.map(move |&(phase, offset)| start + phase * phases.phase + offset)
    });
    starts.collect()
}

/// Computes `y = w * x`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    let (phases, group) = (Phases::new(shape), Group::new(shape));
    let starts = starts(&phases, &group);
    let buffers = || (vec![0.0; group.inputs * phases.input], vec![0.0; phases.length]);
    let [from, to] = group.planes;
    let groups = y.par_chunks_mut(to).zip(x.par_chunks(from)).enumerate();
    groups.for_each_init(buffers, |(divided, sum), (index, (y, x))| {
        let planes = x.chunks_exact(shape.input_plane());
        for (plane, divided) in planes.zip(divided.chunks_exact_mut(phases.input)) {
            phases.divide(plane, divided);
        }
        let w = &w[index % shape.groups * group.weights..][..group.weights];
        let outputs = y.chunks_exact_mut(shape.output_plane());
        for (y, w) in outputs.zip(w.chunks_exact(starts.len())) {
            weighted_sum(sum, &starts, w, divided);
            phases.gather(sum, y);
        }
    });
}

/// The weights in the order in which the gradient of the input reads them: per group, input channel and phase, all
/// output channels and the positions of the kernel in that phase.
fn by_input(shape: &ConvShape, phases: &Phases, group: &Group, w: &[f32]) -> Vec<f32> {
    let taps = phases.taps.len();
    let mut weights = Vec::with_capacity(w.len());
    for w in w.chunks_exact(group.weights).take(shape.groups) {
        for input in 0..group.inputs {
            for phase in 0..phases.count {
                for w in w.chunks_exact(group.inputs * taps) {
                    let w = phases.taps.iter().zip(&w[input * taps..]);
                    weights.extend(w.filter(|((of, _), _)| *of == phase).map(|(_, w)| *w));
                }
            }
        }
    }
    weights
}

/// Computes the gradient of the input. `dx` starts as zeros: inputs that no output reads are not written.
pub(super) fn input_gradient(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (phases, group) = (Phases::new(shape), Group::new(shape));
    let weights = by_input(shape, &phases, &group, w);
    // Zeros around the gradient of an output plane: what is outside of the plane has no part in a sum.
    let margin = phases.reach();
    let room = margin + phases.phase;
    let starts = (0..phases.count).map(|phase| {
        let starts = (0..group.outputs).flat_map(|output| {
            let taps = phases.taps.iter().filter(move |(of, _)| *of == phase);
            taps.map(move |(_, offset)| output * room + margin - offset)
        });
        starts.collect::<Vec<_>>()
    });
    let starts: Vec<_> = starts.collect();
    let buffers = || (vec![0.0; group.outputs * room], vec![0.0; phases.input]);
    let [to, from] = group.planes;
    let groups = dx.par_chunks_mut(to).zip(dy.par_chunks(from)).enumerate();
    groups.for_each_init(buffers, |(spread, divided), (index, (dx, dy))| {
        let planes = dy.chunks_exact(shape.output_plane());
        for (plane, spread) in planes.zip(spread.chunks_exact_mut(room)) {
            phases.spread(plane, &mut spread[margin..]);
        }
        let mut weights = &weights[index % shape.groups * group.weights..];
        for dx in dx.chunks_exact_mut(shape.input_plane()) {
            for (starts, sum) in starts.iter().zip(divided.chunks_exact_mut(phases.phase)) {
                let (of_phase, rest) = weights.split_at(starts.len());
                weighted_sum(sum, starts, of_phase, spread);
                weights = rest;
            }
            phases.collect(divided, dx);
        }
    });
}

/// Computes the gradient of the weight.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (phases, group) = (Phases::new(shape), Group::new(shape));
    let starts = starts(&phases, &group);
    let lengths = [group.inputs * phases.input, phases.length];
    // Small planes of several images, as long as they stay in a core's cache.
    let images = (CACHED / lengths[0]).clamp(1, shape.images.max(1));
    let buffers = || {
        let [input, output] = lengths.map(|length| vec![0.0; images * length]);
        (input, output, vec![[0.0; LANES]; group.weights])
    };
    let [from, to] = group.planes;
    let groups = dw.par_chunks_mut(group.weights).enumerate();
    groups.for_each_init(buffers, |(divided, spread, sums), (index, dw)| {
        sums.fill([0.0; LANES]);
        for first in (0..shape.images).step_by(images) {
            let block = first..(first + images).min(shape.images);
            let divided = &mut divided[..block.len() * lengths[0]];
            for (image, divided) in block.clone().zip(divided.chunks_exact_mut(lengths[0])) {
                let planes = x[(image * shape.groups + index) * from..][..from].chunks_exact(shape.input_plane());
                for (plane, divided) in planes.zip(divided.chunks_exact_mut(phases.input)) {
                    phases.divide(plane, divided);
                }
            }
            let spread = &mut spread[..block.len() * phases.length];
            for (output, sums) in sums.chunks_exact_mut(starts.len()).enumerate() {
                for (image, spread) in block.clone().zip(spread.chunks_exact_mut(phases.length)) {
                    let plane = (image * shape.groups + index) * to + output * shape.output_plane();
                    phases.spread(&dy[plane..][..shape.output_plane()], spread);
                }
                add_products(sums, &starts, divided, spread, lengths);
            }
        }
        for (dw, sum) in dw.iter_mut().zip(sums) {
            *dw = total(*sum);
        }
    });
}
