//! Task chooser for the frames of a stream.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::{
    ChooserOptions, ScoreOptions,
    hysteresis::{Decision, Hysteresis},
    score_tasks,
};
use crate::{EngineError, ImagePass, ResidentAdapter, TaskScore, TaskSet};

/// Chooses the resident task for each frame of a stream.
///
/// A chooser stores a few numbers per task; the profiles are part of the adapters. Each stream of frames needs its own
/// chooser.
#[derive(Debug)]
pub struct TaskChooser {
    hysteresis: Hysteresis,
    /// Adapters to which the averaged scores belong. If an adapter is replaced, its task starts without history.
    seen: HashMap<String, Weak<ResidentAdapter>>,
}

/// Reason why a [`Choice`] has this task, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChoiceStatus {
    /// A task was chosen.
    Chosen,
    /// No resident task fits the frame.
    Unknown,
    /// No resident task has a profile, so none can be chosen.
    NoProfiles,
}

/// The best of the tasks that were not chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerUp {
    /// The task's name.
    pub task: String,
    /// The task's averaged score.
    pub score: TaskScore,
}

/// The choice of a [`TaskChooser`] for a frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The adapter to classify the frame with; `None` if no task fits.
    pub task: Option<Arc<ResidentAdapter>>,
    /// The reason for the choice.
    pub status: ChoiceStatus,
    /// The averaged score of the chosen task or, if the status is [`ChoiceStatus::Unknown`], of the best one; `None`
    /// without profiles.
    pub score: Option<TaskScore>,
    /// The best of the other tasks.
    pub runner_up: Option<RunnerUp>,
    /// Whether the choice differs from the previous one. `Unknown` counts as a choice, and the first choice counts as a
    /// switch.
    pub switched: bool,
    /// Names of the resident tasks that have no profile for this backbone's background and cannot be chosen, sorted.
    pub without_profile: Vec<String>,
}

impl TaskChooser {
    /// Creates a chooser without history.
    pub fn new(options: ChooserOptions) -> Self {
        Self {
            hysteresis: Hysteresis::new(options),
            seen: HashMap::new(),
        }
    }

    /// Scores a frame for all `tasks` with a profile and returns the choice. Tasks may be added, removed and replaced
    /// between frames. Does not change the active task of the set.
    ///
    /// Runs the backbone without an adapter, once for each distinct preprocessing among the tasks, and classifies with
    /// the best task ([`score_tasks`]).
    ///
    /// # Errors
    /// [`EngineError::Feature`] if a feature of the unmodified backbone is NaN or infinite; another [`EngineError`] if
    /// the features cannot be computed.
    pub fn observe(&mut self, pass: &mut ImagePass<'_>, tasks: &TaskSet) -> Result<Choice, EngineError> {
        self.observe_with(pass, tasks, |_| true)
    }

    /// Like [`TaskChooser::observe`], but classifies only with adapters that `may_classify` allows.
    ///
    /// # Errors
    /// [`EngineError`] in the same cases as [`TaskChooser::observe`].
    pub fn observe_with(
        &mut self,
        pass: &mut ImagePass<'_>,
        tasks: &TaskSet,
        may_classify: impl FnMut(&Arc<ResidentAdapter>) -> bool,
    ) -> Result<Choice, EngineError> {
        let resident = tasks.all();
        let options = ScoreOptions::default().with_false_alarms(self.hysteresis.options().false_alarms);
        let scores = score_tasks(pass, &resident, options, may_classify)?;
        for adapter in &resident {
            let name = adapter.task();
            let known = self
                .seen
                .get(name)
                .is_some_and(|seen| seen.as_ptr() == Arc::as_ptr(adapter));
            if !known {
                self.hysteresis.forget(name);
                self.seen.insert(name.to_owned(), Arc::downgrade(adapter));
            }
        }
        self.seen
            .retain(|name, _| resident.iter().any(|adapter| adapter.task() == name));
        let scored: Vec<(&str, TaskScore)> = (resident.iter().zip(&scores))
            .filter_map(|(adapter, score)| Some((adapter.task(), (*score)?)))
            .collect();
        let without_profile = (resident.iter().zip(&scores))
            .filter(|(_, score)| score.is_none())
            .map(|(adapter, _)| adapter.task().to_owned())
            .collect();
        let Some(decision) = self.hysteresis.observe(&scored) else {
            return Ok(Choice {
                task: None,
                status: ChoiceStatus::NoProfiles,
                score: None,
                runner_up: None,
                switched: false,
                without_profile,
            });
        };
        let Decision {
            task,
            switched,
            score,
            runner_up,
        } = decision;
        let task = task
            .and_then(|name| resident.iter().find(|adapter| adapter.task() == name))
            .cloned();
        Ok(Choice {
            status: if task.is_some() {
                ChoiceStatus::Chosen
            } else {
                ChoiceStatus::Unknown
            },
            task,
            score: Some(score),
            runner_up: runner_up.map(|(task, score)| RunnerUp { task, score }),
            switched,
            without_profile,
        })
    }
}
