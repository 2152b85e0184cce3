//! From frames to tasks.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use clr_onnx::ImageView;

use super::{
    ChooserOptions,
    hysteresis::{Decision, Hysteresis},
    score_tasks,
};
use crate::{Engine, EngineError, ResidentAdapter, TaskScore, TaskSet};

/// Chooses, frame by frame, which of the resident tasks the pictures belong to.
///
/// Holds a few numbers per task; the profiles are the adapters'. One chooser follows one stream of frames.
#[derive(Debug)]
pub struct TaskChooser {
    hysteresis: Hysteresis,
    /// Whose running scores there are: a replaced adapter starts anew.
    seen: HashMap<String, Weak<ResidentAdapter>>,
}

/// Why a [`Choice`] has a task or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// A task was chosen.
    Chosen,
    /// No resident task fits the frame.
    Unknown,
    /// No resident task has a profile (or there is no task): nothing can be chosen until one with a profile is installed.
    NoProfiles,
}

/// The best of the tasks that were not chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Runner {
    /// Its name.
    pub task: String,
    /// Its running score.
    pub score: TaskScore,
}

/// What a [`TaskChooser`] says about a frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The adapter to classify the frame with; none while `unknown`.
    pub task: Option<Arc<ResidentAdapter>>,
    /// Why.
    pub status: Status,
    /// The running score of the chosen task, or of the best one while `unknown`; none without profiles.
    pub score: Option<TaskScore>,
    /// The best of the others.
    pub runner_up: Option<Runner>,
    /// Whether this differs from the choice before, `unknown` included. The first choice is a switch.
    pub switched: bool,
    /// Resident tasks that have no profile and so could not be considered, sorted.
    pub without_profile: Vec<String>,
}

impl TaskChooser {
    /// A chooser that has seen nothing yet.
    pub fn new(options: ChooserOptions) -> Self {
        Self {
            hysteresis: Hysteresis::new(options),
            seen: HashMap::new(),
        }
    }

    /// Scores a frame for all `tasks` that have a profile and says which one it belongs to. Tasks may come, go and be
    /// replaced between frames. Does not touch which task of the set is active.
    ///
    /// Runs the backbone, without an adapter, once for each distinct preprocessing among the tasks.
    pub fn observe<'a>(
        &mut self,
        engine: &Engine,
        tasks: &TaskSet,
        picture: impl Into<ImageView<'a>>,
    ) -> Result<Choice, EngineError> {
        let resident = tasks.all();
        let scores = score_tasks(engine, &resident, picture)?;
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
                status: Status::NoProfiles,
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
            runner,
        } = decision;
        let task = task
            .and_then(|name| resident.iter().find(|adapter| adapter.task() == name))
            .cloned();
        Ok(Choice {
            status: if task.is_some() {
                Status::Chosen
            } else {
                Status::Unknown
            },
            task,
            score: Some(score),
            runner_up: runner.map(|(task, score)| Runner { task, score }),
            switched,
            without_profile,
        })
    }
}
