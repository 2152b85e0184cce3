//! A new class fitted against the class features that the adapter carries.
//!
//! **Weights.** A row of the head is fitted to the features of the class's images against the means and the spread of the
//! old classes ([`KnownClasses::fit`]); no old image is needed.
//!
//! **Bias.** It is the one with which the class would take three in a thousand old images, according to the margins in the
//! file. It is not higher than what claims all of the class's own images with a margin, so that a class unlike all others
//! takes nothing needlessly. Images of old classes that the device has keep their class.
//!
//! Measurements: `docs/results/2026-11-30-class-features.md`.

use clr_adapters::ClassFeatures;
use clr_learning::{KnownClasses, argmax, log_probability};

use crate::{
    TaughtClass,
    error::Result,
    features::mean,
    prototype::{Teacher, deviation},
};

/// Fraction of the old classes' images that a new class may take.
pub(crate) const MAY_TAKE: f64 = 0.003;
/// Margin with which a class that is unlike all others claims its own images, in standard deviations of their gaps.
pub(crate) const OWN_MARGIN: f64 = 1.0;

impl Teacher {
    /// Adds the class with the features `own`, fitted against the adapter's class features.
    pub(crate) fn extend_fitted(
        &mut self,
        features: &ClassFeatures,
        label: &str,
        own: &[Vec<f32>],
        separation: Option<f64>,
    ) -> Result<TaughtClass> {
        let known = KnownClasses::new(&self.adapter.head, features);
        let all: Vec<&[f32]> = own.iter().map(Vec::as_slice).collect();
        let mut fitted = known.fit(&all);
        // The bias is for the weights as they are in the file.
        if let Some(steps) = self.adapter.header.steps {
            fitted = known.row(steps.head.round(&fitted.weight));
        }
        let gaps: Vec<f64> = match &all[..] {
            // A single image can only be tested with weights that were fitted to it.
            [only] => vec![self.gap(&fitted.weight, only)],
            _ => (known.fit_without_each(&all).iter().zip(&all))
                .map(|(weights, left_out)| self.gap(weights, left_out))
                .collect(),
        };
        let highest = gaps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let enough = highest + OWN_MARGIN * deviation(&gaps) + 1e-3;
        let allowed = known.bias(&fitted, MAY_TAKE);
        let kept = (self.others.iter())
            .map(|x| self.gap(&fitted.weight, x) - 1e-3)
            .fold(allowed, f64::min);
        let bias = kept.min(enough) as f32;
        let taught = self.report(label, own, &gaps, &fitted.weight, bias, separation)?;
        let mean: Vec<f32> = mean(own).into_iter().map(|value| value as f32).collect();
        if let Some(features) = &mut self.adapter.header.class_features {
            features.push_class(&mean);
        }
        self.adapter.header.labels.push(label.to_owned());
        self.adapter.head.weight.extend(fitted.weight);
        self.adapter.head.bias.push(bias);
        Ok(taught)
    }

    /// States class and probability of canaries that are noise again, because a new class may change them. Such a canary
    /// only shows that an engine computes what another one does.
    pub(crate) fn restate_noise(&mut self) {
        let temperature = f64::from(self.adapter.header.temperature);
        let answers: Vec<(u32, f32)> = (self.canaries.iter())
            .map(|canary| {
                let logits = self.logits(&canary.features);
                let class = argmax(&logits);
                (class as u32, log_probability(&logits, class, temperature).exp() as f32)
            })
            .collect();
        for (canary, (class, probability)) in self.adapter.header.canaries.iter_mut().zip(answers) {
            if canary.seed.is_some() {
                (canary.class, canary.probability) = (class, probability);
            }
        }
    }
}
