//! Whether what was learned replaces what serves.

use std::fmt;

use clr_training::{argmax, log_probability};
use serde::{Deserialize, Serialize};

/// Old classes may lose this share of the pictures that judge them, beside what is noise.
const MAY_LOSE: f64 = 0.01;

/// Pictures that must judge the classes an adapter knew, before anything that may cost them is promoted.
const ENOUGH: usize = 10;

/// Two adapters' answers to the same picture.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The right class; for frames and canaries, the parent's answer.
    pub(crate) class: usize,
    /// Logits.
    pub(crate) parent: Vec<f32>,
    /// Logits.
    pub(crate) tuned: Vec<f32>,
}

/// How two adapters did on the same pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Pictures.
    pub pictures: u32,
    /// Of these, right by the parent.
    pub parent: u32,
    /// Of these, right by the tuned one.
    pub tuned: u32,
    /// Right by the tuned one alone.
    pub won: u32,
    /// Right by the parent alone.
    pub lost: u32,
    /// Mean gain of the right class's log probability, in nats.
    pub gain: f64,
    /// Its standard error.
    pub error: f64,
}

impl Comparison {
    pub(crate) fn of(pairs: &[Pair]) -> Self {
        let mut result = Self {
            pictures: pairs.len() as u32,
            ..Self::default()
        };
        let mut gains = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (parent, tuned) = (argmax(&pair.parent) == pair.class, argmax(&pair.tuned) == pair.class);
            result.parent += u32::from(parent);
            result.tuned += u32::from(tuned);
            result.won += u32::from(tuned && !parent);
            result.lost += u32::from(parent && !tuned);
            gains.push(log_probability(&pair.tuned, pair.class, 1.0) - log_probability(&pair.parent, pair.class, 1.0));
        }
        let n = gains.len() as f64;
        result.gain = gains.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = gains.iter().map(|gain| (gain - result.gain).powi(2)).sum();
        result.error = (squares / (n - 1.0).max(1.0) / n.max(1.0)).sqrt();
        result
    }

    /// More pictures right by more than one standard error of the difference, the root of the number of pictures on which the two
    /// disagree; or not fewer, and the right class more probable by more than two standard errors.
    fn better(&self) -> bool {
        let (won, lost) = (f64::from(self.won), f64::from(self.lost));
        let more = won - lost > (won + lost).sqrt();
        let surer = self.pictures > 1 && won >= lost && self.gain > 2.0 * self.error.max(1e-3);
        more || surer
    }

    /// Fewer right, by more than noise and a hundredth.
    fn worse(&self) -> bool {
        let (won, lost) = (f64::from(self.won), f64::from(self.lost));
        lost - won > MAY_LOSE * f64::from(self.pictures) + (won + lost).sqrt()
    }
}

/// Why a tuned adapter was or was not promoted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it replaces its parent.
    pub promoted: bool,
    /// On held-out pictures of the classes that the device learned.
    pub learned: Comparison,
    /// On held-out pictures of the publisher's classes: labelled ones, frames with the parent's answers, and canaries.
    pub old: Comparison,
    /// Canaries among these.
    pub canaries: u32,
    /// Classes that nothing is held out of, since they have one picture.
    pub unjudged: Vec<String>,
    /// In words.
    pub reason: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Compares, where the parent has `protected` classes that are not to be lost.
pub(crate) fn judge(
    learned: &[Pair],
    old: &[Pair],
    canaries: usize,
    protected: usize,
    unjudged: Vec<String>,
) -> Verdict {
    let (on_learned, on_old) = (Comparison::of(learned), Comparison::of(old));
    let counts = |c: &Comparison| {
        format!(
            "{} of {} held-out pictures right, {} before",
            c.tuned, c.pictures, c.parent
        )
    };
    let (promoted, reason) = if learned.is_empty() {
        let reason = if unjudged.is_empty() {
            "not promoted: no picture is held out, so that nothing can be judged".to_owned()
        } else {
            format!(
                "not promoted: no picture is held out, so that nothing can be judged (one picture only: {})",
                unjudged.join(", ")
            )
        };
        (false, reason)
    } else if on_old.worse() {
        let c = &on_old;
        (
            false,
            format!(
                "not promoted: the classes it knew lose {} of {} pictures and gain {}",
                c.lost, c.pictures, c.won
            ),
        )
    } else if !on_learned.better() {
        (
            false,
            format!(
                "not promoted: not better by more than noise on the learned classes ({}; log probability {:+.2} ± {:.2})",
                counts(&on_learned),
                on_learned.gain,
                on_learned.error
            ),
        )
    } else if protected > 0 && old.len() < ENOUGH {
        (
            false,
            format!(
                "not promoted: better on the learned classes ({}), but only {} pictures are there to judge the classes it knew by, {ENOUGH} are needed; frames that the camera sees, kept without a label, are enough",
                counts(&on_learned),
                old.len()
            ),
        )
    } else {
        let old = if old.is_empty() {
            "no class was there before".to_owned()
        } else {
            format!(
                "the classes it knew keep {} of {} pictures, {} before",
                on_old.tuned, on_old.pictures, on_old.parent
            )
        };
        (
            true,
            format!(
                "promoted: {} (log probability {:+.2} ± {:.2}); {old}",
                counts(&on_learned),
                on_learned.gain,
                on_learned.error
            ),
        )
    };
    Verdict {
        promoted,
        learned: on_learned,
        old: on_old,
        canaries: canaries as u32,
        unjudged,
        reason,
    }
}
