//! Bias correction: the mean error of each output channel is taken out of the bias (Nagel et al. 2019, "Data-Free
//! Quantization Through Weight Equalization and Bias Correction", section 4.2).
//!
//! The error of a convolution's mean has two parts: its own, from the rounding of its weights, and the one that its inputs
//! bring along. [`Update::Own`] corrects only the first part, so all convolutions can be corrected at once.
//! [`Update::All`] corrects the entire error that is left.

use std::collections::{BTreeMap, HashMap};

use clr_onnx::{Backbone, Op, Quantisation, Quantiser};

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

/// A step of the correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Update {
    /// Adds the error of each convolution that its inputs do not explain.
    Own,
    /// Adds this fraction of the error of each convolution.
    All(f64),
}

/// The steps of a correction.
pub(crate) const STEPS: [Update; 3] = [Update::Own, Update::Own, Update::All(0.5)];

/// A corrected backbone.
pub(crate) struct Corrected {
    pub(crate) backbone: Backbone,
    pub(crate) shifts: Shifts,
    pub(crate) correction: Correction,
}

/// Corrects the biases in `steps`, and returns the result with the least error of the features on the calibration images.
pub(crate) fn correct(
    quantiser: &Quantiser,
    grids: &[Quantisation],
    calibration: &Calibration,
    inputs: &[Input],
    steps: &[Update],
    done: &mut dyn FnMut(usize),
) -> Result<Corrected, QuantisationError> {
    let mut shifts = Shifts::new();
    let mut best: Option<Corrected> = None;
    for step in 0..=steps.len() {
        let backbone = quantiser.quantise(grids, &shifts)?;
        let statistics = Observable::new(&backbone, &calibration.sizes)?.statistics(inputs, done);
        let error = relative_error(&calibration.statistics.features, &statistics.features);
        if let Some(&update) = steps.get(step) {
            let errors = Errors::new(calibration, &backbone, &statistics);
            let next = errors.updated(&shifts, update);
            let shifts = std::mem::replace(&mut shifts, next);
            keep(&mut best, backbone, shifts, error);
        } else {
            keep(&mut best, backbone, std::mem::take(&mut shifts), error);
        }
    }
    Ok(best.expect("the first step is a result"))
}

/// Keeps the better one of `best` and a further result.
fn keep(best: &mut Option<Corrected>, backbone: Backbone, shifts: Shifts, error: f64) {
    tracing::debug!("relative error of the features {error:.4}");
    let before = best.as_ref().map_or(error, |best| best.correction.before);
    if best.as_ref().is_none_or(|best| error < best.correction.after) {
        let correction = Correction { before, after: error };
        *best = Some(Corrected {
            backbone,
            shifts,
            correction,
        });
    }
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

    /// Returns the shifts after an update.
    fn updated(&self, shifts: &Shifts, update: Update) -> Shifts {
        let folded = &self.calibration.folded.graph().nodes;
        let mut updated = shifts.clone();
        for (index, node) in folded.iter().enumerate() {
            let Some(errors) = self.of(index, &node.name, update) else {
                continue;
            };
            let shift = updated.entry(index).or_insert_with(|| vec![0.0; errors.len()]);
            shift
                .iter_mut()
                .zip(errors)
                .for_each(|(shift, error)| *shift += error as f32);
        }
        updated
    }

    /// Returns the error to correct of each output channel of a convolution with integer weights.
    fn of(&self, index: usize, name: &str, update: Update) -> Option<Vec<f64>> {
        let float = &self.calibration.folded.graph().nodes[index];
        let &own = self.nodes.get(name)?;
        let quantised = &self.backbone.graph().nodes[own];
        let (Op::Conv(conv), Op::Conv(integer)) = (&float.op, &quantised.op) else {
            return None;
        };
        integer.weight.int8()?;
        let reference = &self.calibration.statistics.means;
        let mut errors = difference(&self.statistics.means[own + 1], &reference[index + 1])?;
        match update {
            Update::All(fraction) => errors.iter_mut().for_each(|error| *error *= fraction),
            Update::Own => {
                let [before, after] = [
                    &reference[float.inputs[0].0],
                    &self.statistics.means[quantised.inputs[0].0],
                ];
                let inputs = difference(after, before)?;
                let weights = conv.weight.values();
                let shape = conv.weight.shape();
                let (per_group, taps) = (shape[1], shape[2] * shape[3]);
                let group = shape[0] / conv.group;
                for (output, filter) in weights.chunks_exact(per_group * taps).enumerate() {
                    let first = output / group * per_group;
                    for (weights, input) in filter.chunks_exact(taps).zip(&inputs[first..]) {
                        errors[output] -= input * weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
                    }
                }
            }
        }
        Some(errors)
    }
}

/// Returns `after − before`, if both have been computed.
fn difference(after: &[f64], before: &[f64]) -> Option<Vec<f64>> {
    let same = after.len() == before.len() && !before.is_empty();
    same.then(|| after.iter().zip(before).map(|(after, before)| after - before).collect())
}
