//! The store as learning sees it: pictures, and the state of a run.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::RgbImage;
use clr_tuning::Example;

use super::Run;
use crate::daemon::runtime::{Runtime, UNLABELLED, lock};

/// Between two checkpoints of a run: each wears the memory card, and megabytes of it. A run that is cut loses no more than this.
const PERIOD: Duration = Duration::from_secs(30);

/// The pictures of a task in the store.
pub(super) struct Pictures<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) task: &'a str,
}

impl clr_tuning::Examples for Pictures<'_> {
    fn list(&self) -> Result<Vec<Example>, String> {
        let examples = self
            .runtime
            .store
            .examples(self.task)
            .map_err(|error| error.to_string())?;
        let labelled = examples.into_iter().map(|example| Example {
            id: example.id,
            label: (example.label != UNLABELLED).then_some(example.label),
        });
        Ok(labelled.collect())
    }

    fn picture(&self, id: &Digest) -> Result<Vec<u8>, String> {
        self.runtime
            .store
            .example(self.task, id)
            .map_err(|error| error.to_string())
    }

    fn decode(&self, bytes: &[u8], name: &str, input: &Preprocessing) -> Result<RgbImage, String> {
        self.runtime
            .decode(bytes, name, None, [input])
            .map(Into::into)
            .map_err(|error| error.to_string())
    }
}

/// The state of a run in the store.
pub(super) struct Kept<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) run: &'a Run,
    /// When a checkpoint was last written.
    pub(super) written: Mutex<Option<Instant>>,
}

impl clr_tuning::Checkpoints for Kept<'_> {
    fn put(&self, state: &[u8]) -> Result<(), String> {
        // The last one before the run ends is always written.
        let ends = self.runtime.stop.is_set() || self.runtime.learning.stop.load(Ordering::SeqCst);
        let mut written = lock(&self.written);
        if !ends && written.is_some_and(|written| written.elapsed() < PERIOD) {
            return Ok(());
        }
        *written = Some(Instant::now());
        drop(written);
        let bytes = postcard::to_stdvec(&(self.run, state)).map_err(|error| error.to_string())?;
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
            // The state of another request is no use; the run's own digest says so as well.
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

impl std::fmt::Debug for Pictures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pictures")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}
