//! Refits a new class's weights to the features of a candidate's sites.

use clr_adapters::Adapter;
use clr_learning::{argmax, log_probability};

use super::{
    bias_calibration::calibrate,
    candidate::{CandidateBuilder, CandidateKind, HeldOutLogits},
    class_weights::{ClassWeights, Sample},
    reference::{ReferenceOutput, head_logits},
    suspected_positives::suspected_positives,
};
use crate::error::Result;

/// An image in a fit: its index in the learned images followed by the replayed ones, its features, and its class
/// (`None` for a replayed image).
type Chosen<'a> = (usize, &'a Vec<f32>, Option<usize>);

impl CandidateBuilder<'_> {
    /// Refits the weights of `class` against the logits of the other classes, as quantised in the file. `learned` and
    /// `replayed` are the features of the two groups of images. Adds the logits of cross-validated images to
    /// `held_out_logits`, and marks suspected positives in `left_out`.
    pub(super) fn refit(
        &self,
        kind: CandidateKind,
        adapter: &mut Adapter,
        class: usize,
        may_take: f64,
        [learned, replayed]: [&[Vec<f32>]; 2],
        held_out_logits: &mut [HeldOutLogits],
        left_out: &mut [bool],
    ) -> Result<()> {
        let file = clr_adapters::quantised(adapter, self.parent.encoding)?;
        let own = &file.head.weight[class * file.head.features..(class + 1) * file.head.features];
        let start = ClassWeights {
            weight: own.iter().map(|&value| f64::from(value)).collect(),
            bias: f64::from(file.head.bias[class]),
        };
        let outputs = &self.outputs;
        // Held-out images test a candidate with tuned sites, so its class weights are fitted without them.
        let learns = |output: &ReferenceOutput<'_>| !output.held || kind == CandidateKind::HeadOnly;
        let mut chosen: Vec<Chosen<'_>> = (outputs.learned.iter().zip(learned).enumerate())
            .filter(|(_, (output, _))| learns(output))
            .map(|(index, (output, features))| (index, features, Some(output.class)))
            .chain((replayed.iter().enumerate()).map(|(index, features)| (learned.len() + index, features, None)))
            .collect();
        let place = |index: usize| index.checked_sub(learned.len());
        chosen.retain(|(index, ..)| place(*index).is_none_or(|replayed| !left_out[replayed]));
        // The log-prior of one of the publisher's classes, less the margin from the options.
        let logit_margin = (self.parent.protected as f64).ln() + f64::from(self.options.logit_margin);
        let others = others(&file, class, &chosen);
        let output =
            |index: usize| place(index).map_or_else(|| &outputs.learned[index], |replayed| &outputs.replayed[replayed]);
        let frames: Vec<bool> = (chosen.iter())
            .map(|(index, ..)| output(*index).image.class.is_none())
            .collect();
        let confidence: Vec<f64> = chosen
            .iter()
            .map(|(index, ..)| self.confidence(output(*index)))
            .collect();
        let seen = self::samples(&chosen, &others, class);
        for suspected in suspected_positives(&start, &seen, &frames, &confidence, logit_margin) {
            left_out[chosen[suspected].0 - learned.len()] = true;
        }
        chosen.retain(|(index, ..)| place(*index).is_none_or(|replayed| !left_out[replayed]));
        let others = self::others(&file, class, &chosen);
        let samples = samples(&chosen, &others, class);
        let places = || chosen.iter().enumerate();
        let old: Vec<(usize, usize)> = places()
            .filter(|(_, (_, _, shown))| shown.is_none())
            .map(|(place, (index, ..))| (place, outputs.replayed[index - learned.len()].class))
            .collect();
        let folded: Vec<usize> = places()
            .filter(|(_, (_, _, shown))| shown.is_none() || kind == CandidateKind::HeadOnly)
            .map(|(place, _)| place)
            .collect();
        let Some(calibrated) = calibrate(&start, &samples, &folded, &old, may_take, logit_margin) else {
            return Ok(());
        };
        for place in folded {
            held_out_logits[chosen[place].0].push((class, calibrated.held_out_logits[place] as f32));
        }
        let features = adapter.head.features;
        (adapter.head.weight[class * features..]
            .iter_mut()
            .zip(&calibrated.weights.weight))
        .for_each(|(own, &value)| *own = value as f32);
        adapter.head.bias[class] = calibrated.weights.bias as f32;
        Ok(())
    }

    /// Returns the parent's highest probability among the publisher's classes.
    fn confidence(&self, output: &ReferenceOutput<'_>) -> f64 {
        let own = &output.logits[..self.parent.protected];
        log_probability(own, argmax(own), 1.0).exp()
    }
}

/// Returns the logits of all other classes for each image.
fn others(file: &Adapter, class: usize, chosen: &[Chosen<'_>]) -> Vec<Vec<f64>> {
    let of = |(_, features, _): &Chosen<'_>| {
        let logits = head_logits(file, features);
        let others = logits.iter().enumerate().filter(|(other, _)| *other != class);
        others.map(|(_, &logit)| f64::from(logit)).collect()
    };
    chosen.iter().map(of).collect()
}

/// Returns the samples of a fit of `class`.
fn samples<'a>(chosen: &[Chosen<'a>], others: &'a [Vec<f64>], class: usize) -> Vec<Sample<'a>> {
    let sample = |(&(_, features, shown), others): (&Chosen<'a>, &'a Vec<f64>)| Sample {
        features,
        others,
        own: shown == Some(class),
    };
    chosen.iter().zip(others).map(sample).collect()
}
