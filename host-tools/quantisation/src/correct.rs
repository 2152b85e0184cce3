//! Bias correction: the mean error of each output channel is taken out of the bias (Nagel et al. 2019, "Data-Free
//! Quantization Through Weight Equalization and Bias Correction", section 4.2).
//!
//! The error of a convolution's mean has two parts: its own, from the rounding of its weights, and the one that its inputs
//! bring along, which is known from the means of the inputs. Only the first part is taken out, so one pass corrects all
//! convolutions at once: the second part vanishes with the first parts of the convolutions before. A further pass corrects
//! what clipping and padding have left.

use std::collections::{BTreeMap, HashMap};

use clr_onnx::{Backbone, Conv, Op, Quantisation, Quantiser, ValueId};

use crate::{
    QuantisationError,
    calibrate::Calibration,
    evaluate::relative_error,
    images::Input,
    observe::{Observable, Statistics},
};

/// Shifts of the biases, by node of the folded graph.
pub(crate) type Shifts = BTreeMap<usize, Vec<f32>>;

/// Relative error of the features on the calibration images, without and with bias correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// Error with unchanged biases.
    pub before: f64,
    /// Error with corrected biases.
    pub after: f64,
}

/// Number of passes after which the biases are corrected.
pub(crate) const ROUNDS: usize = 2;

/// A corrected backbone.
pub(crate) struct Corrected {
    pub(crate) backbone: Backbone,
    pub(crate) shifts: Shifts,
    pub(crate) correction: Correction,
}

/// Corrects the biases in `rounds` passes, measures each result in a further pass, and returns the one with the least error
/// of the features on the calibration images.
pub(crate) fn correct(
    quantiser: &Quantiser,
    grids: &[Quantisation],
    calibration: &Calibration,
    inputs: &[Input],
    rounds: usize,
    done: &mut dyn FnMut(usize),
) -> Result<Corrected, QuantisationError> {
    let mut measure = |shifts: Shifts| -> Result<_, QuantisationError> {
        let backbone = quantiser.quantise(grids, &shifts)?;
        let statistics = Observable::new(&backbone, &calibration.sizes)?.statistics(inputs, done);
        let error = relative_error(&calibration.statistics.features, &statistics.features);
        tracing::debug!("bias correction: relative error of the features {error:.4}");
        let next = Errors::new(calibration, &backbone, &statistics).added_to(&shifts);
        Ok((error, backbone, shifts, next))
    };
    let (before, mut backbone, mut shifts, mut next) = measure(Shifts::new())?;
    let mut after = before;
    for _ in 0..rounds {
        let (error, other, own, further) = measure(next)?;
        if error < after {
            (after, backbone, shifts) = (error, other, own);
        }
        next = further;
    }
    Ok(Corrected {
        backbone,
        shifts,
        correction: Correction { before, after },
    })
}

/// Mean errors of a quantised backbone.
struct Errors<'a> {
    calibration: &'a Calibration,
    backbone: &'a Backbone,
    statistics: &'a Statistics,
    /// Nodes of the quantised graph by name.
    nodes: HashMap<&'a str, usize>,
}

impl<'a> Errors<'a> {
    fn new(calibration: &'a Calibration, backbone: &'a Backbone, statistics: &'a Statistics) -> Self {
        let nodes = backbone.graph().nodes.iter().enumerate();
        Self {
            calibration,
            backbone,
            statistics,
            nodes: nodes.map(|(index, node)| (node.name.as_str(), index)).collect(),
        }
    }

    /// Returns the shifts with the error of each convolution added.
    fn added_to(&self, shifts: &Shifts) -> Shifts {
        let mut sums = shifts.clone();
        for (index, node) in self.calibration.folded.graph().nodes.iter().enumerate() {
            if let Some(errors) = self.of(index, &node.name) {
                let shift = sums.entry(index).or_insert_with(|| vec![0.0; errors.len()]);
                shift
                    .iter_mut()
                    .zip(errors)
                    .for_each(|(shift, error)| *shift += error as f32);
            }
        }
        sums
    }

    /// Returns the mean error of each output channel of a convolution with integer weights that its inputs do not explain.
    fn of(&self, index: usize, name: &str) -> Option<Vec<f64>> {
        let float = &self.calibration.folded.graph().nodes[index];
        let &own = self.nodes.get(name)?;
        let quantised = &self.backbone.graph().nodes[own];
        let (Op::Conv(conv), Op::Conv(integer)) = (&float.op, &quantised.op) else {
            return None;
        };
        integer.weight.int8()?;
        let [before, after] = [&self.calibration.statistics.means, &self.statistics.means];
        let [output, own_output] = [index, own].map(|node| ValueId::of_node(node).0);
        let mut errors = difference(&after[own_output], &before[output])?;
        let inputs = difference(&after[quantised.inputs[0].0], &before[float.inputs[0].0])?;
        let shares = self.shares(conv, float.inputs[0]);
        let weights = conv.weight.values();
        let (inside, group) = (conv.weight.shape()[1], conv.channels() / conv.group);
        for (output, filter) in weights.chunks_exact(inside * shares.len()).enumerate() {
            let first = output / group * inside;
            for (weights, input) in filter.chunks_exact(shares.len()).zip(&inputs[first..]) {
                let seen = weights
                    .iter()
                    .zip(&shares)
                    .map(|(&weight, share)| f64::from(weight) * share);
                errors[output] -= input * seen.sum::<f64>();
            }
        }
        Some(errors)
    }

    /// Returns for each tap of a convolution the share of the positions at which it reads the input and no padding, on
    /// average over the input sizes.
    fn shares(&self, conv: &Conv, input: ValueId) -> Vec<f64> {
        let kernel = conv.kernel();
        let mut shares = vec![0.0; kernel[0] * kernel[1]];
        for shapes in &self.calibration.shapes {
            let size = shapes[input.0].spatial().unwrap_or([1, 1]);
            let pads = conv.padding.resolve(size, kernel, conv.stride, conv.dilation);
            let [rows, columns] = [0, 1].map(|axis| {
                let (before, after) = (pads[axis], pads[axis + 2]);
                axis_shares(
                    size[axis],
                    [before, after],
                    kernel[axis],
                    conv.stride[axis],
                    conv.dilation[axis],
                )
            });
            let taps = rows
                .iter()
                .flat_map(|row| columns.iter().map(move |column| row * column));
            let sizes = self.calibration.shapes.len() as f64;
            shares
                .iter_mut()
                .zip(taps)
                .for_each(|(share, tap)| *share += tap / sizes);
        }
        shares
    }
}

/// Returns for each tap along an axis the share of the positions at which it is inside the input.
fn axis_shares(size: usize, [before, after]: [usize; 2], kernel: usize, stride: usize, dilation: usize) -> Vec<f64> {
    let span = dilation * (kernel - 1) + 1;
    let positions = (size + before + after).saturating_sub(span) / stride + 1;
    let inside = |tap: usize| {
        let place = |position: &usize| position * stride + tap * dilation;
        (0..positions)
            .filter(|position| (before..before + size).contains(&place(position)))
            .count()
    };
    (0..kernel).map(|tap| inside(tap) as f64 / positions as f64).collect()
}

/// Returns `after − before`, if both have been computed.
fn difference(after: &[f64], before: &[f64]) -> Option<Vec<f64>> {
    let same = after.len() == before.len() && !before.is_empty();
    same.then(|| after.iter().zip(before).map(|(after, before)| after - before).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_at_the_border_read_padding_at_some_positions() {
        assert_eq!(axis_shares(3, [1, 1], 3, 1, 1), [2.0 / 3.0, 1.0, 2.0 / 3.0]);
        assert_eq!(axis_shares(4, [0, 1], 3, 2, 1), [1.0, 1.0, 0.5]);
        assert_eq!(axis_shares(5, [0, 0], 1, 1, 1), [1.0]);
    }
}
