//! Teaching of a class: its images become class weights immediately, or are removed.
//!
//! Each class is taught separately: images of other classes that have not been taught yet are ignored. A refused class
//! leaves no trace: its images are removed, or get their previous label again. A class that was taught before is taught
//! again from all its images, and stays as it is if that is refused.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use clr_adapters::{Header, Provenance, Recipe};
use clr_store::StoreError;
use clr_transfer::{Failure, FailureCode, TeachPhase, TeachStatus, TunePhase};
use clr_tuning::{AdapterRevision, Parent, Taught, TaughtClass, TuneError};

use super::{Learner, attempt::LearnError, stored::StoredImages};
use crate::{error::with_causes, learning_state::PreviousLabel, time::now};

impl Learner {
    /// Starts to teach one class on the learning thread. Does nothing if that is already in progress.
    pub(crate) fn teach(&self, task: &str, label: &str) -> Result<(), Failure> {
        if self.runtime.learning.outcome(task, label).phase == TeachPhase::Running {
            return Ok(());
        }
        let (of, class) = (task.to_owned(), label.to_owned());
        let running = TeachStatus {
            phase: TeachPhase::Running,
            ..TeachStatus::default()
        };
        let before = self.runtime.learning.outcome(task, label);
        self.runtime.learning.set_outcome(task, label, running);
        let started = self.start_thread(task, move |learner| learner.teach_and_record(&of, &class));
        if started.is_err() {
            self.runtime.learning.set_outcome(task, label, before);
        }
        started
    }

    fn teach_and_record(&self, task: &str, label: &str) {
        let started = Instant::now();
        let status = catch_unwind(AssertUnwindSafe(|| self.teach_class(task, label))).unwrap_or_else(|_| TeachStatus {
            phase: TeachPhase::Failed,
            message: Some("learning panicked; see the log".to_owned()),
            ..TeachStatus::default()
        });
        clr_engine::trim_heap();
        self.runtime.learning.update(|run| {
            run.phase = match status.phase {
                TeachPhase::Taught => TunePhase::Promoted,
                TeachPhase::Known | TeachPhase::Waiting => TunePhase::Kept,
                _ => TunePhase::Failed,
            };
            run.seconds = started.elapsed().as_secs();
            run.message.clone_from(&status.message);
        });
        self.runtime.learning.set_outcome(task, label, status);
    }

    /// Teaches one class from its stored images. Removes the images if the class is refused.
    pub(super) fn teach_class(&self, task: &str, label: &str) -> TeachStatus {
        let status = match self.try_to_teach(task, label) {
            Ok(status) => status,
            Err(error) => self.refused(task, label, &error),
        };
        tracing::info!(task, label, phase = ?status.phase, message = status.message, "teaching ended");
        status
    }

    fn try_to_teach(&self, task: &str, label: &str) -> Result<TeachStatus, LearnError> {
        let listed = self.runtime.store.examples(task)?;
        let images = listed
            .iter()
            .filter(|example| example.label.as_deref() == Some(label))
            .count();
        if images == 0 {
            return Err(LearnError::Refused(Failure::new(
                FailureCode::EXAMPLES,
                format_args!(
                    "no image of `{label}` is stored for task `{task}`\nhint: clr device teach --task {task} --label {label} IMAGES…"
                ),
            )));
        }
        let serving = match self.runtime.store.serving(task) {
            Err(StoreError::NoSuchTask { .. }) => return self.create_task(task, images),
            serving => serving?,
        };
        let parent = self.runtime.parent(&serving)?;
        // The classes of a task that was created here are equal, so none is fitted against the others.
        if parent.protected > 0 && parent.has_taught(label) {
            return self.teach_again(task, label, &parent);
        }
        if parent.adapter.header.labels.iter().any(|known| known == label) {
            return Ok(TeachStatus {
                phase: TeachPhase::Known,
                images: images as u32,
                message: Some(format!(
                    "`{label}` is already a class; {images} images of it are stored, and tuning uses them"
                )),
                hint: Some(format!("clr device tune {task}")),
                ..TeachStatus::default()
            });
        }
        let taught = self.taught(task, label, &parent)?;
        self.serve_tuned(&taught.revision)?;
        Ok(taught_status(task, label, &taught.classes))
    }

    /// Adds the class to `parent`, from its stored images.
    fn taught(&self, task: &str, label: &str, parent: &Parent) -> Result<Taught, LearnError> {
        let images = StoredImages::with_class(&self.runtime, task, &parent.adapter.header.labels, label);
        Ok(clr_tuning::teach(self.runtime.engine.backbone(), parent, &images)?)
    }

    /// Teaches a class that was taught before, from all its stored images.
    fn teach_again(&self, task: &str, label: &str, parent: &Parent) -> Result<TeachStatus, LearnError> {
        let without = parent.without_class(self.runtime.engine.backbone(), label)?;
        let taught = self.taught(task, label, &without)?;
        // A host repeats a request whose reply it has lost.
        if taught.revision.adapter.head != parent.adapter.head {
            self.serve_tuned(&taught.revision)?;
        }
        Ok(taught_status(task, label, &taught.classes))
    }

    /// Creates a task from images alone. With only one class, the task waits for a second one.
    fn create_task(&self, task: &str, images: usize) -> Result<TeachStatus, LearnError> {
        let backbone = self.runtime.engine.backbone();
        let header = Header::new(
            task,
            Vec::new(),
            backbone.digest(),
            backbone.preprocessing().clone(),
            Provenance::DeviceTuned,
        );
        let created = match clr_tuning::create_task(
            backbone,
            header,
            Recipe::Linear,
            &StoredImages::all(&self.runtime, task),
        ) {
            // This is not an error: the second class will create the task.
            Err(error @ TuneError::TooFewClasses { .. }) => {
                return Ok(TeachStatus {
                    phase: TeachPhase::Waiting,
                    images: images as u32,
                    message: Some(with_causes(&error)),
                    ..TeachStatus::default()
                });
            }
            created => created?,
        };
        let classes = created.adapter.header.labels.len();
        self.serve_tuned(&created)?;
        Ok(TeachStatus {
            phase: TeachPhase::Taught,
            images: images as u32,
            message: Some(format!("a task of {classes} classes was created")),
            ..TeachStatus::default()
        })
    }

    /// Signs an adapter learned on the device, stores it and puts it into service on trial.
    pub(super) fn serve_tuned(&self, version: &AdapterRevision) -> Result<(), LearnError> {
        self.runtime.install_tuned(&version.file).map_err(LearnError::Refused)
    }

    /// Returns the status of a failed attempt. Removes the images if the class itself is the reason.
    fn refused(&self, task: &str, label: &str, error: &LearnError) -> TeachStatus {
        let looks_like = match error {
            LearnError::Tune(TuneError::LooksAlike { known, .. }) => Some(known.clone()),
            _ => None,
        };
        let of_the_class = match error {
            LearnError::Tune(
                TuneError::LooksAlike { .. }
                | TuneError::NothingReadable { .. }
                | TuneError::Encode(_)
                | TuneError::Decode(_),
            ) => true,
            // The extended adapter fails its canaries or violates a rule of the store.
            LearnError::Refused(failure) => {
                failure.code == FailureCode::CANARY
                    || failure.code == FailureCode::ENGINE
                    || failure.code.name() == "refused"
            }
            _ => false,
        };
        let mut failure = match error {
            LearnError::Refused(failure) if failure.code == FailureCode::CANARY => Failure::new(
                FailureCode::CANARY,
                format_args!(
                    "class `{label}` cannot be added to task `{task}`: it changes the result of a canary ({})\nhint: \
                     more and clearer images of `{label}`, or train the class on a host",
                    failure.message
                ),
            ),
            LearnError::Refused(failure) => failure.clone(),
            error => Failure::new(FailureCode::TUNING, with_causes(error)),
        };
        if of_the_class && !self.is_known(task, label) {
            let taken = self.undo_images(task, label);
            if taken > 0 {
                failure.message = format!("{}; its {taken} images are removed", failure.message);
            }
        }
        TeachStatus {
            phase: if of_the_class {
                TeachPhase::Refused
            } else {
                TeachPhase::Failed
            },
            looks_like,
            message: Some(failure.message),
            hint: failure.hint,
            ..TeachStatus::default()
        }
    }

    fn is_known(&self, task: &str, label: &str) -> bool {
        let serving = self.runtime.store.serving(task);
        serving.is_ok_and(|serving| serving.decoded.adapter.header.labels.iter().any(|known| known == label))
    }

    /// Removes the images of a class or restores their previous labels. Returns the number of these images.
    fn undo_images(&self, task: &str, label: &str) -> usize {
        let listed = self.runtime.store.examples(task).unwrap_or_default();
        let mut taken = 0;
        for example in listed.iter().filter(|example| example.label.as_deref() == Some(label)) {
            let undone = match self.runtime.learning.previous_label(task, example.id) {
                Some(PreviousLabel(before)) => (self.runtime.store.example(task, &example.id))
                    .and_then(|bytes| self.runtime.store.add_example(task, before.as_deref(), &bytes, now()))
                    .map(drop),
                None => self.runtime.store.remove_example(task, &example.id),
            };
            match undone {
                Ok(()) => taken += 1,
                Err(error) => tracing::warn!(task, label, "cannot undo adding an image: {error}"),
            }
        }
        taken
    }
}

/// Returns the status of a taught class, with its cross-validated recall as text.
fn taught_status(task: &str, label: &str, classes: &[TaughtClass]) -> TeachStatus {
    let Some(class) = classes.iter().find(|class| class.label == label) else {
        return TeachStatus::default();
    };
    let (images, recognised) = (class.images, class.recognised);
    let mut message =
        format!("`{label}` is now a class; {recognised} of {images} images are recognised in cross-validation");
    if let Some((known, count)) = &class.looks_like {
        message = format!("{message}, {count} are classified as `{known}`");
    }
    if class.unreadable > 0 {
        message = format!("{message}; {} cannot be decoded", class.unreadable);
    }
    // If fewer than half of its images are recognised, the class resembles a known one.
    let hint = (2 * recognised < images)
        .then(|| format!("more images of `{label}`, and `clr device tune {task}`, which refines the class"));
    TeachStatus {
        phase: TeachPhase::Taught,
        images: images as u32,
        recognised: recognised as u32,
        looks_like: class.looks_like.as_ref().map(|(known, _)| known.clone()),
        message: Some(message),
        hint,
    }
}
