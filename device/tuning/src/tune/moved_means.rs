//! Class features of a candidate with tuned sites: the class means move with the features.

use clr_adapters::ClassFeatures;

use super::{
    candidate::{CandidateBuilder, CandidateKind},
    reference::ReferenceOutput,
};
use crate::features::mean;

impl CandidateBuilder<'_> {
    /// Returns the parent's class features, moved with the sites of a candidate: each mean by the mean movement of the
    /// features of the class's images, or of all images if the class has none. `features` are those of the learned and
    /// the replayed images.
    pub(super) fn moved_class_features(
        &self,
        kind: CandidateKind,
        features: [&[Vec<f32>]; 2],
    ) -> Option<ClassFeatures> {
        let mut known = self.parent.adapter.header.class_features.clone()?;
        if kind != CandidateKind::SitesAndHead {
            return Some(known);
        }
        let outputs = self.outputs.learned.iter().zip(features[0]);
        let shift = |(output, moved): (&ReferenceOutput<'_>, &Vec<f32>)| {
            let pairs = moved.iter().zip(&output.features);
            (output.class, pairs.map(|(moved, before)| moved - before).collect())
        };
        let shifts: Vec<(usize, Vec<f32>)> = outputs
            .chain(self.outputs.replayed.iter().zip(features[1]))
            .map(shift)
            .collect();
        let of_all = mean_shift(&shifts, None)?;
        let means: Vec<Vec<f32>> = known.class_means().collect();
        for (class, mean) in means.iter().enumerate() {
            let shift = mean_shift(&shifts, Some(class)).unwrap_or_else(|| of_all.clone());
            let moved: Vec<f32> = mean.iter().zip(&shift).map(|(mean, shift)| mean + shift).collect();
            known.set_class(class, &moved);
        }
        Some(known)
    }
}

/// Returns the mean movement `[F]` of the features of images, those of `class` or all.
fn mean_shift(shifts: &[(usize, Vec<f32>)], class: Option<usize>) -> Option<Vec<f32>> {
    let of_class = shifts.iter().filter(|(own, _)| class.is_none_or(|class| *own == class));
    let all: Vec<Vec<f32>> = of_class.map(|(_, shift)| shift.clone()).collect();
    let mean = (!all.is_empty()).then(|| mean(&all))?;
    Some(mean.into_iter().map(|value| value as f32).collect())
}
