//! Requests for the stored images of a task: list, read and remove.

use std::{collections::BTreeSet, sync::Arc};

use clr_adapters::Digest;
use clr_store::{StoreError, StoredExample};
use clr_transfer::{
    ExampleSelection, ExampleSummary, ExampleTask, Failure, FailureCode, PullInfo, RemovedExamples, TeachLimits,
};

use super::{Runtime, failure, lock};

impl Runtime {
    /// Lists the tasks with stored images, with or without an adapter.
    pub(super) fn list_example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        let mut tasks = Vec::new();
        for task in self.store.example_tasks().map_err(failure::of_store)? {
            let examples = self.store.examples(&task).map_err(failure::of_store)?;
            if examples.is_empty() {
                continue;
            }
            let labelled = || examples.iter().filter_map(|example| example.label.as_deref());
            let labels: BTreeSet<&str> = labelled().collect();
            tasks.push(ExampleTask {
                images: labelled().count() as u32,
                classes: labels.len() as u32,
                frames: (examples.len() - labelled().count()) as u32,
                bytes: examples.iter().map(|example| example.bytes).sum(),
                serves: self.detail(&task, |_| ()).is_some(),
                task,
            });
        }
        Ok(tasks)
    }

    pub(super) fn list_examples(&self, task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        let examples = self.store.examples(task).map_err(failure::of_store)?;
        let summaries = examples.into_iter().map(|example| ExampleSummary {
            id: example.id,
            bytes: example.bytes,
            added: example.added,
            label: example.label,
        });
        Ok(summaries.collect())
    }

    /// Opens an image for reading by its digest.
    pub(super) fn open_stored_example(&self, task: &str, id: &Digest) -> Result<PullInfo, Failure> {
        let bytes: Arc<[u8]> = self.store.example(task, id).map_err(failure::of_store)?.into();
        let length = bytes.len() as u64;
        *lock(&self.reading) = Some((*id, bytes));
        lock(&self.opened_example).replace((*id, task.to_owned()));
        Ok(PullInfo { digest: *id, length })
    }

    /// Returns the bytes of a stored file: an adapter, or the image that was opened last.
    pub(super) fn stored_file(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let opened = lock(&self.opened_example).clone();
        match opened.filter(|(id, _)| id == digest) {
            Some((id, task)) => self.store.example(&task, &id),
            None => self.store.file(digest),
        }
    }

    pub(super) fn remove_stored_examples(
        &self,
        task: &str,
        selection: &ExampleSelection,
    ) -> Result<RemovedExamples, Failure> {
        let listed = self.store.examples(task).map_err(failure::of_store)?;
        let chosen: Vec<&StoredExample> = (listed.iter())
            .filter(|example| match selection {
                ExampleSelection::Image(id) => example.id == *id,
                ExampleSelection::Label(label) => example.label.as_ref() == Some(label),
                ExampleSelection::Frames => example.label.is_none(),
                _ => false,
            })
            .collect();
        if chosen.is_empty() {
            let what = match selection {
                ExampleSelection::Image(id) => format!("no image {}", id.short()),
                ExampleSelection::Label(label) => format!("no image of `{label}`"),
                _ => "no frame".to_owned(),
            };
            return Err(Failure::new(
                FailureCode::NO_FILE,
                format_args!("{what} is stored for task `{task}`\nhint: `clr device examples {task}` lists them"),
            ));
        }
        let mut removed = RemovedExamples::default();
        for example in &chosen {
            match self.store.remove_example(task, &example.id) {
                Ok(()) => removed.images += 1,
                // Removed by another host meanwhile.
                Err(StoreError::NoSuchExample { .. }) => {}
                Err(error) => return Err(failure::of_store(error)),
            }
        }
        // The number of stored frames is counted again when the next one arrives.
        lock(&self.kept_frames).remove(task);
        let gone: BTreeSet<&str> = chosen.iter().filter_map(|example| example.label.as_deref()).collect();
        let left = self.store.examples(task).map_err(failure::of_store)?;
        let learned = self.learned_labels(task);
        removed.without_images = (gone.into_iter())
            .filter(|label| learned.iter().any(|known| known == label))
            .filter(|label| left.iter().all(|example| example.label.as_deref() != Some(*label)))
            .map(ToOwned::to_owned)
            .collect();
        tracing::info!(task, images = removed.images, "stored images removed");
        Ok(removed)
    }

    /// Returns the classes of the serving adapter that were taught on this device.
    fn learned_labels(&self, task: &str) -> Vec<String> {
        #[cfg(feature = "tuning")]
        if let Ok(serving) = self.store.serving(task)
            && serving.held.tuned
            && let Ok(parent) = self.parent(&serving)
        {
            let learned = parent.adapter.header.labels.get(parent.protected..);
            return learned.unwrap_or_default().to_vec();
        }
        let _ = task;
        Vec::new()
    }

    /// Returns the limits for images of a task. A task that does not exist yet has the backbone's input size.
    pub(super) fn limits_for_images(&self, task: &str) -> Result<TeachLimits, Failure> {
        let config = self.config.load();
        let input = match self.store.serving(task) {
            Ok(serving) => {
                let preprocessing = &serving.decoded.adapter.header.preprocessing;
                [preprocessing.width, preprocessing.height]
            }
            Err(StoreError::NoSuchTask { .. } | StoreError::NothingServes { .. }) => {
                let preprocessing = self.engine.backbone().preprocessing();
                [preprocessing.width, preprocessing.height]
            }
            Err(error) => return Err(failure::of_store(error)),
        };
        Ok(TeachLimits::new(
            config.limits.example_bytes as u64,
            config.limits.examples_per_task as u32,
            input,
        ))
    }

    /// Refuses a label that differs from a known one of the task only in case or spaces, which is probably a typing
    /// error.
    pub(super) fn check_label(&self, task: &str, label: &str) -> Result<(), Failure> {
        let fault = |text: String| Failure::new(FailureCode::EXAMPLES, text);
        if label.trim().is_empty() {
            return Err(fault("a label must not consist of spaces alone".to_owned()));
        }
        if label.trim() != label {
            let trimmed = label.trim();
            return Err(fault(format!(
                "label `{label}` begins or ends with spaces\nhint: --label '{trimmed}'"
            )));
        }
        let mut known: Vec<String> = match self.store.serving(task) {
            Ok(serving) => serving.decoded.adapter.header.labels.clone(),
            Err(_) => Vec::new(),
        };
        let filed = self.store.examples(task).map_err(failure::of_store)?;
        known.extend(filed.into_iter().filter_map(|example| example.label));
        if known.iter().any(|known| known == label) {
            return Ok(());
        }
        let alike = folded(label);
        match known.iter().find(|known| folded(known) == alike) {
            Some(known) => Err(fault(format!(
                "label `{label}` differs from `{known}` of task `{task}` only in case or spaces\nhint: --label '{known}', or a label \
                 that differs in more"
            ))),
            None => Ok(()),
        }
    }
}

/// Returns a label in lower case, with single spaces.
fn folded(label: &str) -> String {
    label.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn labels_that_differ_only_in_case_or_spaces_count_as_equal() {
        assert_eq!(folded("Solar  Cell "), folded("solar cell"));
        assert_ne!(folded("cell"), folded("cells"));
    }
}
