//! Trial of an adapter on its first frames: latency and confidence.

use clr_adapters::Trial;
use clr_store::Progress;

/// Minimum number of frames before latency or confidence may end a trial, because a fraction of fewer frames means
/// little.
const MIN_FRAMES: u32 = 20;
/// Maximum fraction of frames that may exceed the latency bound.
const MAX_SLOW: f32 = 0.1;

/// Measurements of a frame on trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// Milliseconds from image to result.
    pub(crate) milliseconds: f32,
    /// Probability of the best class.
    pub(crate) confidence: f32,
}

/// Verdict after a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrialVerdict {
    /// Continue the trial.
    Continue,
    /// The adapter passed.
    Confirm,
    /// The adapter failed, for this reason.
    Revert(String),
}

/// State of a trial after its frames so far.
#[derive(Clone, Debug)]
pub(crate) struct TrialRun {
    bounds: Trial,
    frames: u32,
    slow: u32,
    low: u32,
}

impl TrialRun {
    /// Resumes the trial with the progress at the last clean end.
    pub(crate) fn resume(bounds: Trial, progress: Progress) -> Self {
        let Progress { frames, slow, low } = progress;
        Self {
            bounds,
            frames,
            slow,
            low,
        }
    }

    /// Returns the progress.
    pub(crate) fn progress(&self) -> Progress {
        let &Self { frames, slow, low, .. } = self;
        Progress { frames, slow, low }
    }

    /// Returns whether the trial limits the latency.
    pub(crate) fn has_latency_bound(&self) -> bool {
        self.bounds.max_latency_ms.is_some()
    }

    /// Returns the number of remaining frames.
    pub(crate) fn left(&self) -> u32 {
        self.bounds.frames.saturating_sub(self.frames)
    }

    /// Counts a frame with finite logits.
    pub(crate) fn observe(&mut self, frame: Observation) -> TrialVerdict {
        let bounds = &self.bounds;
        self.frames = self.frames.saturating_add(1);
        self.slow += u32::from(
            bounds
                .max_latency_ms
                .is_some_and(|most| frame.milliseconds > most as f32),
        );
        self.low += u32::from(frame.confidence < bounds.low_confidence);
        let last = self.frames >= bounds.frames;
        if last || self.frames >= MIN_FRAMES {
            let share = |count: u32| count as f32 / self.frames as f32;
            if let Some(most) = bounds.max_latency_ms
                && share(self.slow) > MAX_SLOW
            {
                let (slow, frames) = (self.slow, self.frames);
                return TrialVerdict::Revert(format!("{slow} of {frames} frames took more than {most} ms"));
            }
            if share(self.low) > bounds.max_low_confidence_fraction {
                let (low, frames, least) = (self.low, self.frames, bounds.low_confidence);
                return TrialVerdict::Revert(format!("confidence was below {least} in {low} of {frames} frames"));
            }
        }
        if last {
            TrialVerdict::Confirm
        } else {
            TrialVerdict::Continue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bounds: Trial, frames: &[(f32, f32)]) -> (TrialVerdict, usize) {
        let mut trial = TrialRun::resume(bounds, Progress::default());
        for (index, &(milliseconds, confidence)) in frames.iter().enumerate() {
            let verdict = trial.observe(Observation {
                milliseconds,
                confidence,
            });
            if verdict != TrialVerdict::Continue {
                return (verdict, index + 1);
            }
        }
        (TrialVerdict::Continue, frames.len())
    }

    const BOUNDS: Trial = Trial {
        frames: 50,
        max_latency_ms: Some(30),
        low_confidence: 0.5,
        max_low_confidence_fraction: 0.4,
    };

    #[test]
    fn a_trial_is_confirmed_after_its_number_of_good_frames() {
        assert_eq!(run(BOUNDS, &[(10.0, 0.9); 60]), (TrialVerdict::Confirm, 50));
        // One slow frame in ten and four low-confidence frames in ten are within the bounds.
        let frames: Vec<_> = (0..60)
            .map(|at| {
                (
                    if at % 10 == 9 { 90.0 } else { 5.0 },
                    if at % 5 >= 3 { 0.1 } else { 0.9 },
                )
            })
            .collect();
        assert_eq!(run(BOUNDS, &frames).0, TrialVerdict::Confirm);
    }

    #[test]
    fn enough_slow_or_low_confidence_frames_end_a_trial() {
        let (verdict, after) = run(BOUNDS, &[(31.0, 0.9); 60]);
        assert!(
            matches!(&verdict, TrialVerdict::Revert(reason) if reason.contains("30 ms")),
            "{verdict:?}"
        );
        assert_eq!(after, MIN_FRAMES as usize);
        let (verdict, _) = run(BOUNDS, &[(10.0, 0.2); 60]);
        assert!(
            matches!(&verdict, TrialVerdict::Revert(reason) if reason.contains("confidence")),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_trial_resumes_with_its_progress() {
        let frame = Observation {
            milliseconds: 1.0,
            confidence: 0.9,
        };
        let mut trial = TrialRun::resume(BOUNDS, Progress::default());
        for _ in 0..30 {
            trial.observe(frame);
        }
        let mut again = TrialRun::resume(BOUNDS, trial.progress());
        assert_eq!(again.left(), 20);
        assert!((0..19).all(|_| again.observe(frame) == TrialVerdict::Continue));
        assert_eq!(again.observe(frame), TrialVerdict::Confirm);
    }

    #[test]
    fn a_short_trial_is_judged_at_its_end() {
        let short = Trial { frames: 3, ..BOUNDS };
        assert_eq!(run(short, &[(10.0, 0.9); 3]), (TrialVerdict::Confirm, 3));
        assert!(matches!(run(short, &[(10.0, 0.1); 3]), (TrialVerdict::Revert(_), 3)));
    }
}
