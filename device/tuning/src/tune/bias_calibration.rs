//! Class weights of a new class, and calibration of its bias by 5-fold cross-validation.
//!
//! The class weights are fitted to all samples. In addition, weights are fitted without each fold and give that fold's
//! held-out logits. With these logits, the bias is lowered until the new class takes at most a given probability from
//! the old classes on average. A fixed margin is then subtracted.

use super::class_weights::{ClassWeights, Sample, fit, log_sum};

/// Mean probability that all new classes together may take from the classes of old images: half of the promotion rule's
/// maximum.
pub(super) const MAY_TAKE: f64 = 0.005;
/// Additional margin in nats, because stored frames do not show every kind of image.
const MARGIN: f64 = 0.75;
/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// Class weights with a calibrated bias, and the held-out logits.
pub(super) struct CalibratedClass {
    pub(super) weights: ClassWeights,
    /// One logit per sample. For a sample outside of the folds it is computed with the final weights.
    pub(super) held_out_logits: Vec<f64>,
}

/// Fits class weights to `samples` with cross-validation over those in `folded`, and lowers the bias so that the class
/// takes at most `may_take` from `old`. `old` contains pairs: the index of a sample, and the index of its class in
/// `others`. [`MARGIN`] is always subtracted. `logit_margin` is as for [`fit`].
pub(super) fn calibrate(
    start: &ClassWeights,
    samples: &[Sample<'_>],
    folded: &[usize],
    old: &[(usize, usize)],
    may_take: f64,
    logit_margin: f64,
) -> Option<CalibratedClass> {
    let all: Vec<&Sample<'_>> = samples.iter().collect();
    let mut weights = fit(start, &all, logit_margin)?;
    let mut held_out_logits: Vec<f64> = samples.iter().map(|sample| weights.logit(sample.features)).collect();
    cross_validate(start, &all, folded, logit_margin, &mut held_out_logits)?;
    let old_images: Vec<OldImage> = (old.iter())
        .map(|&(index, class)| OldImage::of(samples[index].others, class, held_out_logits[index]))
        .collect();
    let shift = highest_shift(&old_images, may_take) - MARGIN;
    weights.bias += shift;
    for logit in &mut held_out_logits {
        *logit += shift;
    }
    Some(CalibratedClass {
        weights,
        held_out_logits,
    })
}

/// Computes the logits of the samples in `folded`, each with class weights fitted without its fold. Returns `None` if a
/// fit fails.
pub(super) fn cross_validate(
    start: &ClassWeights,
    samples: &[&Sample<'_>],
    folded: &[usize],
    logit_margin: f64,
    held_out_logits: &mut [f64],
) -> Option<()> {
    let mut part = vec![FOLDS; samples.len()];
    for own in [false, true] {
        let group = folded.iter().filter(|&&index| samples[index].own == own);
        group
            .enumerate()
            .for_each(|(place, &index)| part[index] = place % FOLDS);
    }
    for fold in 0..FOLDS {
        let kept = samples.iter().zip(&part).filter(|&(_, &part)| part != fold);
        let without = fit(
            start,
            &kept.map(|(sample, _)| *sample).collect::<Vec<_>>(),
            logit_margin,
        )?;
        for (index, sample) in samples.iter().enumerate().filter(|&(index, _)| part[index] == fold) {
            held_out_logits[index] = without.logit(sample.features);
        }
    }
    Some(())
}

/// An image of an old class: its class's probability without the new class, and the new class's lead over all others.
struct OldImage {
    probability: f64,
    lead: f64,
}

impl OldImage {
    fn of(others: &[f64], class: usize, new: f64) -> Self {
        let all = log_sum(others);
        Self {
            probability: (others[class] - all).exp(),
            lead: new - all,
        }
    }

    /// Returns the probability that the new class takes from the image's class, with the new class's bias raised by
    /// `shift`.
    fn taken(&self, shift: f64) -> f64 {
        self.probability / (1.0 + (-self.lead - shift).exp())
    }
}

/// Returns the highest shift, at most 0, for which the mean probability taken from the old images is at most
/// `may_take`.
fn highest_shift(old: &[OldImage], may_take: f64) -> f64 {
    let fits = |shift: f64| {
        let taken = old.iter().map(|image| image.taken(shift)).sum::<f64>();
        taken <= may_take * old.len() as f64
    };
    if fits(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (-1.0, 0.0);
    while !fits(low) {
        (low, high) = (2.0 * low, low);
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of the new class have a large first feature, and those of the old classes a large second one. Two images
    /// are hard to separate.
    fn samples(features: &[[f32; 2]]) -> Vec<Sample<'_>> {
        let own = |x: &[f32; 2]| x[0] > 0.7;
        (features.iter())
            .map(|x| Sample {
                features: x,
                others: &[1.0, 0.0],
                own: own(x),
            })
            .collect()
    }

    fn features() -> Vec<[f32; 2]> {
        let mut features: Vec<[f32; 2]> = (0..10).map(|i| [0.8 + 0.02 * i as f32, 0.1]).collect();
        features.extend((0..20).map(|i| [0.03 * i as f32, 0.9 - 0.01 * i as f32]));
        features.extend([[0.68, 0.15], [0.69, 0.12]]);
        features
    }

    fn start() -> ClassWeights {
        ClassWeights {
            weight: vec![0.0; 2],
            bias: 0.0,
        }
    }

    #[test]
    fn the_bias_takes_at_most_the_permitted_probability() {
        let features = features();
        let samples = samples(&features);
        let old: Vec<(usize, usize)> = (10..features.len()).map(|index| (index, 0)).collect();
        let indices: Vec<usize> = old.iter().map(|&(index, _)| index).collect();
        let taken = |calibrated: &CalibratedClass| {
            let each = old.iter().map(|&(index, class)| {
                OldImage::of(samples[index].others, class, calibrated.held_out_logits[index]).taken(MARGIN)
            });
            each.sum::<f64>() / old.len() as f64
        };
        let free = calibrate(&start(), &samples, &indices, &old, 1.0, 0.0).unwrap();
        assert!(taken(&free) > 0.004, "{}", taken(&free));
        let bounded = calibrate(&start(), &samples, &indices, &old, 0.001, 0.0).unwrap();
        assert!((taken(&bounded) - 0.001).abs() < 1e-6, "{}", taken(&bounded));
        assert!(bounded.weights.bias < free.weights.bias);
        assert_eq!(bounded.weights.weight, free.weights.weight);
    }

    #[test]
    fn a_folded_sample_gets_a_held_out_logit() {
        let mut features = features();
        // A single unusual image of the class is recognised if it is part of the fit, and not recognised if it is held
        // out.
        features.push([0.71, 5.0]);
        let samples = samples(&features);
        let last = features.len() - 1;
        let all: Vec<usize> = (0..features.len()).collect();
        let folded = calibrate(&start(), &samples, &all, &[], 1.0, 0.0).unwrap();
        let known = calibrate(&start(), &samples, &[], &[], 1.0, 0.0).unwrap();
        assert_eq!(known.held_out_logits[last], known.weights.logit(&features[last]));
        assert!(
            known.held_out_logits[last] > 1.0 && folded.held_out_logits[last] < 0.0,
            "{:?}",
            (known.held_out_logits[last], folded.held_out_logits[last])
        );
        // The assignment to folds does not change the final weights.
        assert_eq!(
            (known.weights.weight, known.weights.bias),
            (folded.weights.weight, folded.weights.bias)
        );
    }
}
