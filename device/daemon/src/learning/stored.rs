//! Access of learning to the store: images, and the state of a run.

use std::time::Instant;

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::ReducedImage;
use clr_tuning::Example;

use super::Run;
use crate::runtime::Runtime;

/// The images of a task in the store.
pub(super) struct StoredImages<'a> {
    runtime: &'a Runtime,
    task: &'a str,
    /// The classes whose images are used; all if empty. Unlabelled frames are always used.
    classes: Vec<String>,
}

impl<'a> StoredImages<'a> {
    /// All images of the task.
    pub(super) fn all(runtime: &'a Runtime, task: &'a str) -> Self {
        Self::with_classes(runtime, task, &[])
    }

    /// Images of `classes`, and frames.
    pub(super) fn with_classes(runtime: &'a Runtime, task: &'a str, classes: &[String]) -> Self {
        Self {
            runtime,
            task,
            classes: classes.to_vec(),
        }
    }

    /// Returns the images of the `known` classes and of one that is being taught, and the unlabelled frames.
    pub(super) fn with_class(runtime: &'a Runtime, task: &'a str, known: &[String], label: &str) -> Self {
        let mut images = Self::with_classes(runtime, task, known);
        images.classes.push(label.to_owned());
        images
    }
}

impl clr_tuning::Examples for StoredImages<'_> {
    fn list(&self) -> Result<Vec<Example>, String> {
        let examples = self
            .runtime
            .store
            .examples(self.task)
            .map_err(|error| error.to_string())?;
        let labelled = examples.into_iter().map(|example| Example {
            id: example.id,
            label: example.label,
        });
        let counts = |example: &Example| {
            let label = example.label.as_ref();
            label.is_none_or(|label| self.classes.is_empty() || self.classes.contains(label))
        };
        Ok(labelled.filter(counts).collect())
    }

    fn read(&self, id: &Digest) -> Result<Vec<u8>, String> {
        self.runtime
            .store
            .example(self.task, id)
            .map_err(|error| error.to_string())
    }

    fn decode(&self, bytes: &[u8], name: &str, input: &Preprocessing) -> Result<ReducedImage, String> {
        self.runtime
            .decode(bytes, name, None, [input])
            .map(Into::into)
            .map_err(|error| error.to_string())
    }
}

/// The state of a run in the store.
pub(super) struct StoredRunState<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) run: &'a Run,
    pub(super) started: Instant,
}

impl clr_tuning::Checkpoints for StoredRunState<'_> {
    fn put(&self, state: &[u8]) -> Result<(), String> {
        let run = Run {
            spent: self.run.spent + self.started.elapsed().as_secs(),
            ..self.run.clone()
        };
        let bytes = postcard::to_stdvec(&(run, state)).map_err(|error| error.to_string())?;
        let task = &self.run.request.task;
        self.runtime
            .store
            .put_checkpoint(task, &bytes)
            .map_err(|error| error.to_string())
    }

    fn get(&self) -> Result<Option<Vec<u8>>, String> {
        let task = &self.run.request.task;
        let bytes = self.runtime.store.checkpoint(task).map_err(|error| error.to_string())?;
        Ok(bytes.and_then(|bytes| {
            let (run, state): (Run, &[u8]) = postcard::from_bytes(&bytes).ok()?;
            // A state that belongs to another request is ignored. The digest of the run confirms the match.
            (run.created == self.run.created).then(|| state.to_vec())
        }))
    }

    fn clear(&self) -> Result<(), String> {
        self.runtime
            .store
            .clear_checkpoint(&self.run.request.task)
            .map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for StoredImages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImages")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}
