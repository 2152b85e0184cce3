//! When a leading task becomes the chosen one: running scores, a margin, and patience.

use std::collections::HashMap;

use crate::TaskScore;

/// How readily a [`TaskChooser`](crate::TaskChooser) changes its mind.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChooserOptions {
    /// Weight of the newest frame in the running scores, above 0 and at most 1; 1 forgets the frames before.
    pub newest: f32,
    /// How far another task's running score must lead the chosen one's to count (in units of [`TaskScore::score`]).
    pub margin: f32,
    /// Frames in a row that must agree on a change before it is made; 1 changes at once.
    pub patience: u32,
    /// Running strangeness beyond which a task does not fit, see [`TaskScore::strangeness`].
    pub tolerance: f32,
    /// How far below `tolerance` the strangeness must fall for a task to fit again after `unknown`.
    pub band: f32,
}

impl Default for ChooserOptions {
    /// For a camera: a change takes about four frames.
    fn default() -> Self {
        Self {
            newest: 0.5,
            margin: 0.1,
            patience: 3,
            tolerance: 1.0,
            band: 0.1,
        }
    }
}

impl ChooserOptions {
    /// For pictures that have nothing to do with one another: each is judged alone.
    pub fn single_pictures() -> Self {
        Self {
            newest: 1.0,
            margin: 0.0,
            patience: 1,
            band: 0.0,
            ..Self::default()
        }
    }

    /// Sets the lead that another task's running score needs.
    #[must_use]
    pub fn with_margin(mut self, margin: f32) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the number of consecutive frames that must agree on a change.
    #[must_use]
    pub fn with_patience(mut self, patience: u32) -> Self {
        self.patience = patience;
        self
    }
}

/// What a frame speaks for, or what is held.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Task(String),
    Unknown,
}

impl Verdict {
    fn task(&self) -> Option<&str> {
        match self {
            Self::Task(task) => Some(task),
            Self::Unknown => None,
        }
    }
}

/// What was decided on a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// The task; `None` is unknown.
    pub(super) task: Option<String>,
    pub(super) switched: bool,
    /// The running score of the chosen task, or of the best one where none fits.
    pub(super) score: TaskScore,
    /// The best of the other tasks.
    pub(super) runner: Option<(String, TaskScore)>,
}

/// The decisions of a stream of frames. Knows tasks by name alone.
#[derive(Debug)]
pub(super) struct Hysteresis {
    options: ChooserOptions,
    running: HashMap<String, TaskScore>,
    held: Option<Verdict>,
    /// The change that is wanted, and for how many frames in a row.
    pending: Option<(Verdict, u32)>,
}

impl Hysteresis {
    pub(super) fn new(options: ChooserOptions) -> Self {
        Self {
            options,
            running: HashMap::new(),
            held: None,
            pending: None,
        }
    }

    /// Forgets the task's running score, and holds it no longer.
    pub(super) fn forget(&mut self, task: &str) {
        self.running.remove(task);
        self.held.take_if(|held| held.task() == Some(task));
    }

    /// Takes in the scores of one frame; `None` if there are none.
    pub(super) fn observe(&mut self, scores: &[(&str, TaskScore)]) -> Option<Decision> {
        self.remember(scores);
        let mut ranking: Vec<(&str, TaskScore)> = scores.iter().map(|(task, _)| (*task, self.running[*task])).collect();
        ranking.sort_by(|a, b| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(b.0)));
        let best = *ranking.first()?;
        // A held task that is gone is held no longer.
        self.held.take_if(|held| {
            held.task()
                .is_some_and(|task| ranking.iter().all(|(own, _)| *own != task))
        });
        let wanted = self.wanted(best, &ranking);
        let switched = if self.held.as_ref() == Some(&wanted) {
            self.pending = None;
            false
        } else {
            self.agreed(&wanted)
        };
        if switched {
            self.held = Some(wanted);
        }
        let task = self.held.as_ref().and_then(Verdict::task);
        let shown = task.unwrap_or(best.0);
        let runner = ranking.iter().find(|(name, _)| *name != shown);
        Some(Decision {
            task: task.map(str::to_owned),
            switched,
            score: ranking.iter().find(|(name, _)| *name == shown)?.1,
            runner: runner.map(|(name, score)| ((*name).to_owned(), *score)),
        })
    }

    /// Whether enough frames in a row, this one included, want this change.
    fn agreed(&mut self, wanted: &Verdict) -> bool {
        let before = self.pending.take().filter(|(pending, _)| pending == wanted);
        let frames = before.map_or(0, |(_, frames)| frames) + 1;
        let agreed = self.held.is_none() || frames >= self.options.patience;
        if !agreed {
            self.pending = Some((wanted.clone(), frames));
        }
        agreed
    }

    /// The running scores; a task that was not scored is forgotten.
    fn remember(&mut self, scores: &[(&str, TaskScore)]) {
        self.running
            .retain(|task, _| scores.iter().any(|(scored, _)| scored == task));
        let newest = self.options.newest;
        for (task, new) in scores {
            match self.running.get_mut(*task) {
                Some(old) => {
                    old.score += newest * (new.score - old.score);
                    old.strangeness += newest * (new.strangeness - old.strangeness);
                }
                None => _ = self.running.insert((*task).to_owned(), *new),
            }
        }
    }

    /// What the running scores speak for, given what is held.
    fn wanted(&self, best: (&str, TaskScore), ranking: &[(&str, TaskScore)]) -> Verdict {
        let options = &self.options;
        let (task, tolerance) = match &self.held {
            Some(Verdict::Task(name)) => {
                let own = ranking.iter().find(|(own, _)| own == name);
                let close = own.filter(|own| best.1.score - own.1.score <= options.margin);
                (*close.unwrap_or(&best), options.tolerance)
            }
            Some(Verdict::Unknown) => (best, options.tolerance - options.band),
            None => (best, options.tolerance),
        };
        if task.1.strangeness <= tolerance {
            Verdict::Task(task.0.to_owned())
        } else {
            Verdict::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(score: f32, strangeness: f32) -> TaskScore {
        TaskScore { score, strangeness }
    }

    /// The decisions over frames of the scores of tasks `a` and `b`, as the names or `?`.
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
    fn frames_that_disagree_in_turn_do_not_make_it_flap() {
        let flicker = (0..200).map(|frame| {
            let sign = if frame % 2 == 0 { 1.0 } else { -1.0 };
            [score(-1.0 + sign, GOOD), score(-1.0 - sign, GOOD)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), flicker);
        assert_eq!(switches, 1, "{names}");
        assert_eq!(names, "a".repeat(200));
    }

    #[test]
    fn strangeness_that_jitters_around_the_tolerance_does_not_make_it_flap() {
        let jitter = (0..200).map(|frame| {
            let strangeness = if frame % 3 == 0 { 1.2 } else { 0.95 };
            [score(-1.0, strangeness), score(-3.0, 2.0)]
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
    fn what_fits_no_task_becomes_unknown_and_comes_back() {
        let scene = (0..60).map(|frame| {
            let strangeness = if (20..40).contains(&frame) { 2.0 } else { 0.1 };
            [score(-1.0, strangeness), score(-3.0, 3.0)]
        });
        let (names, switches) = decisions(ChooserOptions::default(), scene);
        assert_eq!(switches, 3, "{names}");
        assert!(
            names.starts_with(&"a".repeat(20)) && names[25..40].chars().all(|name| name == '?') && names.ends_with('a')
        );
    }

    #[test]
    fn single_pictures_are_judged_alone() {
        let scene = [[-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.1]].map(|[a, b]| [score(a, GOOD), score(b, GOOD)]);
        assert_eq!(decisions(ChooserOptions::single_pictures(), scene).0, "aba");
    }

    #[test]
    fn a_held_task_that_is_gone_gives_way_at_once() {
        let mut hysteresis = Hysteresis::new(ChooserOptions::default());
        let (a, b) = (score(-1.0, GOOD), score(-2.0, GOOD));
        assert_eq!(
            hysteresis.observe(&[("a", a), ("b", b)]).unwrap().task.as_deref(),
            Some("a")
        );
        let decision = hysteresis.observe(&[("b", b)]).unwrap();
        assert_eq!((decision.task.as_deref(), decision.switched), (Some("b"), true));
        assert_eq!(decision.runner, None);
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
