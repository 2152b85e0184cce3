//! Hysteresis of the task choice: exponentially averaged scores, a margin, and a number of consecutive frames that must
//! agree.

use std::collections::HashMap;

use crate::{ScoreOptions, TaskScore};

/// Options of a [`TaskChooser`](crate::TaskChooser): averaging, margins and thresholds of a switch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChooserOptions {
    /// Weight of the newest frame in the exponentially averaged scores, above 0 and at most 1; 1 ignores earlier
    /// frames.
    pub ema_weight: f32,
    /// Lead that another task's averaged score needs over the chosen task's, in units of [`TaskScore::score`].
    pub margin: f32,
    /// Number of consecutive frames that must agree on a change before it is made; 1 changes immediately.
    pub patience: u32,
    /// Fraction of a task's own images that may be taken for unknown ([`ScoreOptions::false_alarms`]).
    pub false_alarms: f32,
    /// Averaged out-of-distribution score above which a task does not fit; see [`TaskScore::ood_score`].
    pub ood_threshold: f32,
    /// After `Unknown`, a task fits again only if its averaged out-of-distribution score is this far below
    /// `ood_threshold`.
    pub hysteresis: f32,
}

impl Default for ChooserOptions {
    /// Returns the options for a camera, with which a switch takes about four frames.
    fn default() -> Self {
        Self {
            ema_weight: 0.5,
            margin: 0.1,
            patience: 3,
            false_alarms: ScoreOptions::default().false_alarms,
            ood_threshold: 1.0,
            hysteresis: 0.1,
        }
    }
}

impl ChooserOptions {
    /// Returns the options for unrelated images, each of which is judged separately.
    pub fn independent_images() -> Self {
        Self {
            ema_weight: 1.0,
            margin: 0.0,
            patience: 1,
            hysteresis: 0.0,
            ..Self::default()
        }
    }

    /// Sets the lead that another task's averaged score needs.
    #[must_use]
    pub fn with_margin(mut self, margin: f32) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the fraction of a task's own images that may be taken for unknown.
    #[must_use]
    pub fn with_false_alarms(mut self, false_alarms: f32) -> Self {
        self.false_alarms = false_alarms;
        self
    }

    /// Sets the number of consecutive frames that must agree on a change.
    #[must_use]
    pub fn with_patience(mut self, patience: u32) -> Self {
        self.patience = patience;
        self
    }
}

/// The choice that the scores support.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    Task(String),
    Unknown,
}

impl Target {
    fn task(&self) -> Option<&str> {
        match self {
            Self::Task(task) => Some(task),
            Self::Unknown => None,
        }
    }
}

/// The decision on a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// The chosen task; `None` if no task fits.
    pub(super) task: Option<String>,
    pub(super) switched: bool,
    /// The averaged score of the chosen task or, if none fits, of the best one.
    pub(super) score: TaskScore,
    /// The best of the other tasks.
    pub(super) runner_up: Option<(String, TaskScore)>,
}

/// State of the choice over a stream of frames. Tasks are identified by name.
#[derive(Debug)]
pub(super) struct Hysteresis {
    options: ChooserOptions,
    averages: HashMap<String, TaskScore>,
    current: Option<Target>,
    /// The pending change, and the number of consecutive frames that support it.
    pending: Option<(Target, u32)>,
}

impl Hysteresis {
    pub(super) fn new(options: ChooserOptions) -> Self {
        Self {
            options,
            averages: HashMap::new(),
            current: None,
            pending: None,
        }
    }

    pub(super) fn options(&self) -> ChooserOptions {
        self.options
    }

    /// Forgets the task's averaged score. If the task is the current choice, there is no choice any more.
    pub(super) fn forget(&mut self, task: &str) {
        self.averages.remove(task);
        self.current.take_if(|current| current.task() == Some(task));
    }

    /// Adds the scores of one frame and returns the decision; `None` if there are no scores.
    pub(super) fn observe(&mut self, scores: &[(&str, TaskScore)]) -> Option<Decision> {
        self.update_averages(scores);
        let mut ranking: Vec<(&str, TaskScore)> =
            scores.iter().map(|(task, _)| (*task, self.averages[*task])).collect();
        ranking.sort_by(|a, b| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(b.0)));
        let best = *ranking.first()?;
        // A removed task cannot remain the current choice.
        self.current.take_if(|current| {
            current
                .task()
                .is_some_and(|task| ranking.iter().all(|(own, _)| *own != task))
        });
        let wanted = self.wanted(best, &ranking);
        let switched = if self.current.as_ref() == Some(&wanted) {
            self.pending = None;
            false
        } else {
            self.agreed(&wanted)
        };
        if switched {
            self.current = Some(wanted);
        }
        let task = self.current.as_ref().and_then(Target::task);
        let shown = task.unwrap_or(best.0);
        let runner_up = ranking.iter().find(|(name, _)| *name != shown);
        Some(Decision {
            task: task.map(str::to_owned),
            switched,
            score: ranking.iter().find(|(name, _)| *name == shown)?.1,
            runner_up: runner_up.map(|(name, score)| ((*name).to_owned(), *score)),
        })
    }

    /// Returns whether enough consecutive frames, including this one, support the change.
    fn agreed(&mut self, wanted: &Target) -> bool {
        let before = self.pending.take().filter(|(pending, _)| pending == wanted);
        let frames = before.map_or(0, |(_, frames)| frames) + 1;
        let agreed = self.current.is_none() || frames >= self.options.patience;
        if !agreed {
            self.pending = Some((wanted.clone(), frames));
        }
        agreed
    }

    /// Updates the averaged scores. Tasks without a score in this frame are forgotten.
    fn update_averages(&mut self, scores: &[(&str, TaskScore)]) {
        self.averages
            .retain(|task, _| scores.iter().any(|(scored, _)| scored == task));
        let ema_weight = self.options.ema_weight;
        for (task, new) in scores {
            match self.averages.get_mut(*task) {
                Some(old) => {
                    old.score += ema_weight * (new.score - old.score);
                    old.ood_score += ema_weight * (new.ood_score - old.ood_score);
                }
                None => _ = self.averages.insert((*task).to_owned(), *new),
            }
        }
    }

    /// Returns the choice that the averaged scores support, given the current one.
    fn wanted(&self, best: (&str, TaskScore), ranking: &[(&str, TaskScore)]) -> Target {
        let options = &self.options;
        let (task, ood_threshold) = match &self.current {
            Some(Target::Task(name)) => {
                let own = ranking.iter().find(|(own, _)| own == name);
                let close = own.filter(|own| best.1.score - own.1.score <= options.margin);
                (*close.unwrap_or(&best), options.ood_threshold)
            }
            Some(Target::Unknown) => (best, options.ood_threshold - options.hysteresis),
            None => (best, options.ood_threshold),
        };
        if task.1.ood_score <= ood_threshold {
            Target::Task(task.0.to_owned())
        } else {
            Target::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(score: f32, ood_score: f32) -> TaskScore {
        TaskScore { score, ood_score }
    }

    /// Returns the decisions over frames with the given scores of the tasks `a` and `b`: the tasks' names, or `?`.
    fn decisions(options: ChooserOptions, frames: impl IntoIterator<Item = [TaskScore; 2]>) -> (String, usize) {
        let mut hysteresis = Hysteresis::new(options);
        let mut switches = 0;
        let names = frames.into_iter().map(|[a, b]| {
            let decision = hysteresis.observe(&[("a", a), ("b", b)]).unwrap();
            switches += usize::from(decision.switched);
            decision.task.unwrap_or_else(|| "?".to_owned())
        });
        (names.collect(), switches)
    }

    const GOOD: f32 = 0.0;

    #[test]
    fn alternating_frames_cause_no_switching() {
        let flicker = (0..200).map(|frame| {
            let sign = if frame % 2 == 0 { 1.0 } else { -1.0 };
            [score(-1.0 + sign, GOOD), score(-1.0 - sign, GOOD)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), flicker);
        assert_eq!(switches, 1, "{names}");
        assert_eq!(names, "a".repeat(200));
    }

    #[test]
    fn an_ood_score_near_the_threshold_causes_no_switching() {
        let jitter = (0..200).map(|frame| {
            let ood_score = if frame % 3 == 0 { 1.2 } else { 0.95 };
            [score(-1.0, ood_score), score(-3.0, 2.0)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), jitter);
        assert!(switches <= 2, "{switches} switches: {names}");
    }

    #[test]
    fn a_lasting_change_is_followed_within_a_few_frames_and_once() {
        let scene = (0..40).map(|frame| {
            let (a, b) = if frame < 20 { (-1.0, -2.0) } else { (-2.0, -1.0) };
            [score(a, GOOD), score(b, GOOD)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), scene);
        assert_eq!(switches, 2);
        let first = names.find('b').unwrap();
        assert!((21..=24).contains(&first), "{names}");
        assert!(!names[first..].contains('a'));
    }

    #[test]
    fn a_lead_within_the_margin_changes_nothing() {
        let scene = (0..60).map(|frame| {
            let lead = if frame < 5 { 1.0 } else { -0.09 };
            [score(-1.0 + lead, GOOD), score(-1.0, GOOD)]
        });
        assert_eq!(decisions(ChooserOptions::default(), scene), ("a".repeat(60), 1));
    }

    #[test]
    fn frames_that_fit_no_task_are_unknown_until_one_fits_again() {
        let scene = (0..60).map(|frame| {
            let ood_score = if (20..40).contains(&frame) { 2.0 } else { 0.1 };
            [score(-1.0, ood_score), score(-3.0, 3.0)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), scene);
        assert_eq!(switches, 3, "{names}");
        assert!(
            names.starts_with(&"a".repeat(20)) && names[25..40].chars().all(|name| name == '?') && names.ends_with('a')
        );
    }

    #[test]
    fn independent_images_are_judged_alone() {
        let scene = [[-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.1]].map(|[a, b]| [score(a, GOOD), score(b, GOOD)]);
        assert_eq!(decisions(ChooserOptions::independent_images(), scene).0, "aba");
    }

    #[test]
    fn a_current_task_that_was_removed_is_replaced_at_once() {
        let mut hysteresis = Hysteresis::new(ChooserOptions::default());
        let (a, b) = (score(-1.0, GOOD), score(-2.0, GOOD));
        assert_eq!(
            hysteresis.observe(&[("a", a), ("b", b)]).unwrap().task.as_deref(),
            Some("a")
        );
        let decision = hysteresis.observe(&[("b", b)]).unwrap();
        assert_eq!((decision.task.as_deref(), decision.switched), (Some("b"), true));
        assert_eq!(decision.runner_up, None);
        assert_eq!(hysteresis.observe(&[]), None);
    }

    #[test]
    fn equal_scores_go_to_the_name_that_sorts_first_whatever_their_order() {
        let equal = score(-1.0, GOOD);
        for order in [["a", "b"], ["b", "a"]] {
            let mut hysteresis = Hysteresis::new(ChooserOptions::default());
            let decision = hysteresis.observe(&order.map(|name| (name, equal))).unwrap();
            assert_eq!(decision.task.as_deref(), Some("a"));
        }
    }
}
