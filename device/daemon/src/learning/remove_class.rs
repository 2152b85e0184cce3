//! Removal of a class that was taught on the device: first from the adapter, then its stored images.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::sync_channel,
};

use clr_store::StoreError;
use clr_transfer::{Device as _, ExampleSelection, Failure, FailureCode, RemovedExamples, TunePhase};

use super::{Learner, attempt::LearnError};
use crate::error::with_causes;

impl Learner {
    /// Removes a class and its stored images, and waits for the end.
    ///
    /// # Errors
    /// [`FailureCode::BUSY`] while the device learns; [`FailureCode::TUNING`] if the class is not one that was taught on
    /// this device: adapter and images are then as before. If its images cannot be removed, the class is removed all the same.
    pub(crate) fn remove_class(&self, task: &str, label: &str) -> Result<RemovedExamples, Failure> {
        let (of, class) = (task.to_owned(), label.to_owned());
        let (sender, receiver) = sync_channel(1);
        self.start_thread(task, move |learner| {
            let removed = catch_unwind(AssertUnwindSafe(|| learner.try_to_remove_class(&of, &class)));
            let removed = removed.unwrap_or_else(|_| Err(panicked()));
            let (phase, message) = match &removed {
                Ok(removed) => (
                    TunePhase::Promoted,
                    format!("class `{class}` and {} images are removed", removed.images),
                ),
                Err(failure) => (TunePhase::Failed, failure.to_string()),
            };
            tracing::info!(task = of, label = class, message, "removal of a class ended");
            learner
                .runtime
                .learning
                .update(|status| (status.phase, status.message) = (phase, Some(message)));
            let _ = sender.send(removed);
        })?;
        receiver.recv().unwrap_or_else(|_| Err(panicked()))
    }

    fn try_to_remove_class(&self, task: &str, label: &str) -> Result<RemovedExamples, Failure> {
        self.without_class(task, label).map_err(|error| match error {
            LearnError::Refused(failure) => failure,
            LearnError::Store(error @ StoreError::NoSuchTask { .. }) => Failure::new(FailureCode::NO_TASK, error),
            error => Failure::new(FailureCode::TUNING, with_causes(&error)),
        })?;
        self.runtime.learning.forget_outcome(task, label);
        let all = ExampleSelection::Label(label.to_owned());
        match self.runtime.remove_examples(task, &all) {
            // There were none.
            Err(failure) if failure.code == FailureCode::NO_FILE => Ok(RemovedExamples::default()),
            removed => removed,
        }
    }

    fn without_class(&self, task: &str, label: &str) -> Result<(), LearnError> {
        let serving = self.runtime.store.serving(task)?;
        let parent = self.runtime.parent(&serving)?;
        let revision = clr_tuning::remove_class(self.runtime.engine.backbone(), &parent, label)?;
        self.serve_tuned(&revision)
    }
}

fn panicked() -> Failure {
    Failure::new(FailureCode::TUNING, "the removal panicked; see the log")
}
