//! Promotion rule, which decides whether a candidate replaces the parent.
//!
//! Counting errors on twenty images cannot detect a loss of one in a hundred. The mean drop of the true class's
//! probability can: it predicts the fraction of lost test images nearly without bias, and far better than the number of
//! changed results (`docs/reference/tuning.md`, *Promotion*).

use std::fmt;

use clr_learning::log_probability;
use serde::{Deserialize, Serialize};

use crate::{
    comparison::{Comparison, MAY_LOSE, Pair},
    verdict_words::{Gained, names, per_thousand},
};

/// Minimum number of images that test the old classes.
pub(crate) const ENOUGH: usize = 10;

/// Evidence on a candidate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// Images of the classes that the device learned.
    pub(crate) learned: Vec<Pair>,
    /// Images of the publisher's classes: labelled ones, frames with the class that the parent predicts, and canaries.
    pub(crate) old: Vec<Pair>,
    /// Images of the publisher's classes used to measure losses to new classes. There may be more than in `old`,
    /// because class weights can be cross-validated and sites cannot.
    pub(crate) taken: Vec<Pair>,
    /// Number of canaries in `old`.
    pub(crate) canaries: usize,
    /// Loss of the publisher's classes according to the adapter's margins.
    pub(crate) predicted: Option<PredictedLoss>,
    /// Whether both adapters' class weights are of the same kind of fit, the candidate's to more variants of the images.
    pub(crate) is_same_fit: bool,
    /// Whether only class weights are new, so that cross-validation allows all images to test the candidate.
    pub(crate) head_only: bool,
}

/// Fraction of the images of the publisher's classes that the taught classes take, as predicted from the margins in the
/// adapter, without an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictedLoss {
    /// By the parent.
    pub parent: f64,
    /// By the tuned adapter.
    pub tuned: f64,
}

/// Promotion verdict on a tuned adapter, with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromotionVerdict {
    /// Whether the tuned adapter replaces its parent.
    pub promoted: bool,
    /// Comparison on held-out images of the classes that were taught on the device.
    pub learned: Comparison,
    /// Comparison on held-out images of the publisher's classes: labelled ones, frames with the class that the parent
    /// predicts, and canaries.
    pub old: Comparison,
    /// Expected fraction of lost images of the publisher's classes: measured on their images, or predicted if there are
    /// too few.
    pub expected_loss: f64,
    /// The prediction, if class weights were refitted against class features.
    #[serde(default)]
    pub predicted: Option<PredictedLoss>,
    /// Number of canaries in `old`.
    pub canaries: u32,
    /// Whether only class weights are new, so that all images tested them by cross-validation.
    #[serde(rename = "rows_alone")]
    pub head_only: bool,
    /// Classes with a single image, from which none is held out.
    #[serde(rename = "unjudged")]
    pub without_holdout: Vec<String>,
    /// The reason, in words.
    pub reason: String,
}

impl fmt::Display for PromotionVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Returns mean(q(parent) − q(tuned)) + mean(q(tuned) − p(tuned)), where p is the true class's probability, and q the
/// same among the old classes only. The first mean is the loss among old classes, the second the loss to new ones.
/// Probability that a new class already had before counts as lost.
fn expected_loss(evidence: &Evidence, protected: usize) -> f64 {
    let mean =
        |pairs: &[Pair], drop: &dyn Fn(&Pair) -> f64| pairs.iter().map(drop).sum::<f64>() / pairs.len().max(1) as f64;
    let probability = |logits: &[f32], class: usize| log_probability(logits, class, 1.0).exp();
    let own = |logits: &[f32], class: usize| match protected {
        0 => probability(logits, class),
        _ => probability(&logits[..protected], class),
    };
    let confused = |pair: &Pair| own(&pair.parent, pair.class) - own(&pair.tuned, pair.class);
    let taken = |pair: &Pair| own(&pair.tuned, pair.class) - probability(&pair.tuned, pair.class);
    mean(&evidence.old, &confused) + mean(&evidence.taken, &taken)
}

/// Returns the verdict on a candidate. The first `protected` of `labels` are the parent's classes.
pub(crate) fn judge(
    evidence: &Evidence,
    labels: &[String],
    protected: usize,
    without_holdout: Vec<String>,
) -> PromotionVerdict {
    let Evidence { learned, old, .. } = evidence;
    let (on_learned, on_old) = (Comparison::of(learned), Comparison::of(old));
    let is_measured = old.len() >= ENOUGH;
    let measured = expected_loss(evidence, protected);
    let expected_loss = match evidence.predicted {
        Some(predicted) if is_measured => measured.max(predicted.tuned),
        Some(predicted) => predicted.tuned,
        None => measured,
    };
    // The same fit to more variants, at the same predicted loss: a rule against noise would only refuse what is better
    // in the mean.
    let is_better = if evidence.is_same_fit {
        on_learned.slightly_better()
    } else {
        on_learned.better()
    };
    let gained = Gained {
        comparison: &on_learned,
        names: names(learned, labels),
        head_only: evidence.head_only,
    };
    let loss = per_thousand(expected_loss);
    let refusal = if learned.is_empty() {
        let single = match &without_holdout[..] {
            [] => String::new(),
            labels => format!(" (one image only: {})", labels.join(", ")),
        };
        Some(format!("no image is held out, so that nothing can be judged{single}"))
    } else if on_old.worse() {
        let c = &on_old;
        Some(format!(
            "the old classes lose {} of {} images and gain {}",
            c.lost, c.images, c.won
        ))
    } else if on_learned.tuned == 0 {
        Some(format!("none of {} is recognised", gained.images()))
    } else if !is_better {
        let noise = if evidence.is_same_fit {
            ""
        } else {
            " by more than noise"
        };
        Some(format!(
            "not better{noise}: it {gained} (log probability {:+.2} ± {:.2})",
            on_learned.gain, on_learned.error
        ))
    } else if protected > 0 && !is_measured && evidence.predicted.is_none() {
        Some(format!(
            "it {gained}, but only {} images are there to judge the old classes by, {ENOUGH} are needed; frames that the camera sees, kept without a label, are enough",
            old.len()
        ))
    } else if expected_loss > MAY_LOSE {
        Some(format!("it {gained}, but the old classes are expected to lose {loss}"))
    } else {
        None
    };
    let reason = match &refusal {
        Some(refusal) => format!("not promoted: {refusal}"),
        None if protected == 0 => format!("promoted: it {gained}; no class was there before"),
        None => {
            let kept = |c: &Comparison| {
                format!(
                    "{} of {} of their images are right, {} before",
                    c.tuned, c.images, c.parent
                )
            };
            let known = match evidence.predicted {
                Some(predicted) if !is_measured => format!(
                    "{} before; predicted from the adapter's margins, not measured: {} of their images are stored",
                    per_thousand(predicted.parent),
                    if old.is_empty() {
                        "none".to_owned()
                    } else {
                        format!("only {}", old.len())
                    }
                ),
                Some(_) => format!("the higher one of prediction and measurement; {}", kept(&on_old)),
                None => kept(&on_old),
            };
            format!("promoted: it {gained}; the old classes are expected to lose {loss} ({known})")
        }
    };
    PromotionVerdict {
        promoted: refusal.is_none(),
        learned: on_learned,
        old: on_old,
        expected_loss,
        predicted: evidence.predicted,
        canaries: evidence.canaries as u32,
        head_only: evidence.head_only,
        without_holdout,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the logits of an image for two old classes and a new one.
    fn pair(class: usize, parent: [f32; 3], tuned: [f32; 3]) -> Pair {
        Pair {
            class,
            parent: parent.to_vec(),
            tuned: tuned.to_vec(),
        }
    }

    fn learned() -> Vec<Pair> {
        vec![pair(2, [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]); 4]
    }

    fn evidence(learned: Vec<Pair>, old: Vec<Pair>) -> Evidence {
        Evidence {
            learned,
            taken: old.clone(),
            old,
            canaries: 0,
            predicted: None,
            is_same_fit: false,
            head_only: false,
        }
    }

    fn labels() -> Vec<String> {
        ["a", "b", "new"].map(str::to_owned).to_vec()
    }

    fn confident() -> Pair {
        pair(0, [9.0, 0.0, -9.0], [9.0, 0.0, -9.0])
    }

    #[test]
    fn a_loss_that_no_image_shows_yet_is_not_promoted() {
        // Every frame keeps its class, but with a smaller lead, so some similar images will be lost.
        let close = pair(0, [3.0, 0.0, -9.0], [2.0, 0.0, 1.0]);
        let mut old = vec![confident(); 16];
        old.extend(vec![close; 4]);
        let verdict = judge(&evidence(learned(), old), &labels(), 2, vec![]);
        assert_eq!((verdict.old.lost, verdict.promoted), (0, false));
        assert!(verdict.expected_loss > 0.05, "{}", verdict.expected_loss);
        assert!(verdict.reason.contains("expected to lose"), "{verdict}");
        let verdict = judge(&evidence(learned(), vec![confident(); 20]), &labels(), 2, vec![]);
        assert!(verdict.promoted, "{verdict}");
    }

    #[test]
    fn a_candidate_that_recognises_no_held_out_image_is_not_promoted() {
        // The class is far more probable than before, but still not predicted.
        let missed = vec![pair(2, [9.0, 0.0, 0.0], [5.0, 0.0, 4.0]); 4];
        let verdict = judge(&evidence(missed, vec![confident(); 20]), &labels(), 2, vec![]);
        assert!(!verdict.promoted);
        assert!(verdict.reason.contains("none of 4"), "{verdict}");
    }

    #[test]
    fn a_predicted_loss_replaces_missing_images_of_old_classes_and_is_called_a_prediction() {
        let with = |tuned: f64, old: usize| {
            let mut evidence = evidence(learned(), vec![confident(); old]);
            evidence.predicted = Some(PredictedLoss { parent: 0.002, tuned });
            judge(&evidence, &labels(), 2, vec![])
        };
        let verdict = with(0.003, 0);
        assert!(verdict.promoted, "{verdict}");
        assert!(
            verdict
                .reason
                .contains("recognises 4 of 4 held-out images of `new`, 0 before"),
            "{verdict}"
        );
        assert!(
            verdict
                .reason
                .contains("3 images in 1,000 (2 images in 1,000 before; predicted"),
            "{verdict}"
        );
        assert!(verdict.reason.contains("none of their images are stored"), "{verdict}");
        assert!(!with(0.02, 0).promoted && !with(0.02, 20).promoted);
        let measured = with(0.003, 20);
        assert!(
            measured.reason.contains("20 of 20 of their images are right"),
            "{measured}"
        );
        assert!(!judge(&evidence(learned(), vec![]), &labels(), 2, vec![]).promoted);
    }
}
