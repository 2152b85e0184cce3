//! Classification of a frame by the selected tasks. An adapter on trial that fails is reverted, and the previous adapter
//! of its task classifies the frame.

mod chosen;
mod group;

use std::sync::Arc;

use clr_engine::{Classification, EngineError, ResidentAdapter, TaskChooser};

use super::{error::with_causes, runtime::Runtime, source::Frame};

/// Maximum number of adapters of one task that may classify a frame: one on trial, and those that replace it.
const TRIES: usize = 3;

/// Results of a frame.
pub(crate) enum Outcome {
    /// One task is selected, or the task is chosen automatically.
    Single(Result<Classified, NoResult>),
    /// A group is selected: one result per task, in the order of the group.
    Group(Vec<TaskOutcome>),
}

/// Result of one task of a group.
pub(crate) struct TaskOutcome {
    pub(crate) task: String,
    /// The classification, or the reason why there is none.
    pub(crate) result: Result<Classified, String>,
}

/// Classification by an adapter.
pub(crate) struct Classified {
    pub(crate) adapter: Arc<ResidentAdapter>,
    pub(crate) classification: Classification,
    /// Milliseconds for decoding the image and for the task alone, if they were measured.
    pub(crate) alone_ms: Option<f64>,
}

/// Reason why a frame has no classification.
pub(crate) enum NoResult {
    /// The task is chosen automatically, and no task fits the frame.
    Unknown,
    /// An error, with its message.
    Failed(String),
}

/// Classifies a frame. It takes the selection once: a concurrent switch affects the next frame.
pub(crate) fn classify(runtime: &Runtime, chooser: &mut TaskChooser, frame: &Frame) -> Outcome {
    if runtime.serving.auto() {
        return Outcome::Single(chosen::classify(runtime, chooser, frame));
    }
    let selection = runtime.serving.tasks().selection();
    let selected = selection.as_ref().map_or(&[][..], |selection| selection.tasks());
    if selected.len() > 1 {
        return Outcome::Group(group::classify(runtime, frame, selected));
    }
    let one = group::classify(runtime, frame, selected).pop();
    let result = one.map_or_else(|| Err(group::why_none(runtime, frame)), |one| one.result);
    Outcome::Single(result.map_err(NoResult::Failed))
}

/// Result of a classification that may have panicked.
type Attempt = std::thread::Result<Result<Classification, EngineError>>;

/// Verdict on an adapter's attempt at a frame.
enum AttemptVerdict {
    Classified(Classification),
    /// There is no result, for this reason.
    Failed(String),
    /// The adapter was on trial and has been reverted, for this reason.
    Reverted(String),
}

/// Judges an attempt: an adapter on trial is reverted if it panicked or its results are not finite.
fn judge(runtime: &Runtime, adapter: &Arc<ResidentAdapter>, attempt: Attempt) -> AttemptVerdict {
    let fault = match attempt {
        Ok(Ok(classification)) => return AttemptVerdict::Classified(classification),
        Ok(Err(error @ EngineError::NotFinite { .. })) => with_causes(&error),
        Ok(Err(error)) => return AttemptVerdict::Failed(with_causes(&error)),
        Err(_) => "the engine panicked".to_owned(),
    };
    if !runtime.on_trial(adapter) {
        return AttemptVerdict::Failed(fault);
    }
    revert(runtime, adapter, &fault);
    AttemptVerdict::Reverted(fault)
}

/// Reverts an adapter that failed its trial. The other tasks are not affected.
pub(crate) fn revert(runtime: &Runtime, adapter: &Arc<ResidentAdapter>, reason: &str) {
    if let Err(error) = runtime.revert(adapter, reason) {
        tracing::error!(task = adapter.task(), "cannot revert: {}", with_causes(&error));
    }
}
