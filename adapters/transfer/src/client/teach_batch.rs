//! Transaction that adds images of one class. Either the class is taught, or the added images are removed.

use alloc::{
    borrow::ToOwned as _,
    collections::BTreeMap,
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::{fmt::Display, time::Duration};

use clr_adapters::Digest;
use embedded_io::{Read, Write};

use super::{Client, ClientError};
use crate::{
    failure::{Failure, FailureCode},
    teaching::{ExampleSelection, TeachLimits, TeachPhase, TeachStatus},
    tuning::{TunePhase, TuneRequest},
};

/// Polling interval.
const STEP: Duration = Duration::from_millis(100);
/// Maximum wait for another host's teaching.
const PATIENCE: Duration = Duration::from_mins(5);
/// Limits assumed for a device that does not report them.
const USUAL: TeachLimits = TeachLimits {
    image_bytes: 4 << 20,
    images_per_task: 1_000,
    input: [224, 224],
};

/// Images of one class that are being added to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeachBatch {
    task: String,
    label: String,
    /// The device's limits on an image.
    pub limits: TeachLimits,
    /// Labels of the images stored before.
    before: BTreeMap<Digest, Option<String>>,
    /// Digests of new images.
    added: Vec<Digest>,
    /// Images that were stored with another label: digest, previous label and bytes.
    relabelled: Vec<(Digest, String, Vec<u8>)>,
    duplicates: usize,
}

impl TeachBatch {
    /// Returns the number of new images.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added.len()
    }

    /// Returns the number of images that were already stored with this label.
    #[must_use]
    pub const fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// Returns the number of images that were stored with another label.
    #[must_use]
    pub fn relabelled(&self) -> usize {
        self.relabelled.len()
    }

    /// Returns whether the batch has no image to teach from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added() + self.relabelled() + self.duplicates == 0
    }
}

fn unsupported(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(failure) if failure.code == FailureCode::UNSUPPORTED)
}

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Begins a batch of images of one class, and reads the device's limits and stored images.
    ///
    /// # Errors
    /// [`ClientError`] if a request fails; with [`FailureCode::BUSY`] while the device tunes.
    pub fn begin_batch(&mut self, task: &str, label: &str) -> Result<TeachBatch, ClientError> {
        self.wait_for_teaching()?;
        let limits = match self.teach_limits(task) {
            Err(error) if unsupported(&error) => USUAL,
            limits => limits?,
        };
        let held = match self.examples(task) {
            Err(error) if unsupported(&error) => Vec::new(),
            held => held?,
        };
        Ok(TeachBatch {
            task: task.to_owned(),
            label: label.to_owned(),
            limits,
            before: held.into_iter().map(|example| (example.id, example.label)).collect(),
            added: Vec::new(),
            relabelled: Vec::new(),
            duplicates: 0,
        })
    }

    /// Adds one image.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::push`]. Images added earlier remain until [`Client::undo_batch`].
    pub fn add_to_batch(&mut self, batch: &mut TeachBatch, image: &[u8]) -> Result<(), ClientError> {
        let new = self.teach(&batch.task, &batch.label, image)?;
        let id = Digest::of(image);
        match batch.before.get(&id) {
            _ if batch.added.contains(&id) || batch.relabelled.iter().any(|(known, ..)| *known == id) => {
                batch.duplicates += 1;
            }
            Some(Some(label)) if *label != batch.label => {
                batch.relabelled.push((id, label.clone(), image.to_vec()));
            }
            // The image was stored as an unlabelled frame.
            Some(None) | None if new => batch.added.push(id),
            _ => batch.duplicates += 1,
        }
        Ok(())
    }

    /// Teaches the class from the added images. If teaching fails, the added images are removed, as far as the device
    /// can be reached.
    ///
    /// # Errors
    /// [`ClientError`] if a request fails.
    pub fn finish_batch(&mut self, batch: &TeachBatch) -> Result<TeachStatus, ClientError> {
        let taught = self.teach_filed(&batch.task, &batch.label);
        let undo = match &taught {
            Ok(status) => matches!(status.phase, TeachPhase::Refused | TeachPhase::Failed),
            Err(_) => true,
        };
        if undo {
            self.undo_batch(batch);
        }
        taught
    }

    /// Removes the images that this batch added, and restores the labels of relabelled ones, as far as the device can
    /// be reached.
    pub fn undo_batch(&mut self, batch: &TeachBatch) {
        // The device may have removed an image on its own.
        for id in &batch.added {
            let removed = self.remove_examples(&batch.task, ExampleSelection::Image(*id));
            if removed.is_err_and(|error| !matches!(error, ClientError::Refused(_))) {
                return;
            }
        }
        for (_, label, image) in &batch.relabelled {
            if self.teach(&batch.task, label, image).is_err() {
                return;
            }
        }
    }

    fn teach_filed(&mut self, task: &str, label: &str) -> Result<TeachStatus, ClientError> {
        let deadline = self.clock.now() + PATIENCE;
        loop {
            match self.teach_class(task, label) {
                Err(error) if unsupported(&error) => return self.teach_all(task),
                // Another host is teaching.
                Err(ClientError::Refused(failure))
                    if failure.code == FailureCode::BUSY && self.clock.now() < deadline =>
                {
                    self.wait_for_teaching()?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let status = self.follow_teaching(task, label, STEP)?;
                    // A device that restarted has lost the request, but still stores the images.
                    if status.phase != TeachPhase::None || self.clock.now() > deadline {
                        return Ok(status);
                    }
                }
            }
        }
    }

    /// Teaches all new classes through a tuning run with zero steps, for a device that cannot teach a single class.
    fn teach_all(&mut self, task: &str) -> Result<TeachStatus, ClientError> {
        match self.tune(&TuneRequest::prototype(task)) {
            Err(error) if unsupported(&error) => return Ok(TeachStatus::default()),
            started => started?,
        }
        let status = self.follow_tuning(STEP, &mut |_| ())?;
        Ok(TeachStatus {
            phase: match status.phase {
                TunePhase::Failed => TeachPhase::Failed,
                TunePhase::Promoted => TeachPhase::Taught,
                _ => TeachPhase::Known,
            },
            message: status.message,
            ..TeachStatus::default()
        })
    }

    /// Waits while another class is being taught. Fails during a tuning run, which would take too long.
    fn wait_for_teaching(&mut self) -> Result<(), ClientError> {
        let deadline = self.clock.now() + PATIENCE;
        loop {
            let status = match self.tune_status() {
                Err(error) if unsupported(&error) => return Ok(()),
                status => status?,
            };
            if !status.phase.is_running() {
                return Ok(());
            }
            if status.steps > 0 || self.clock.now() > deadline {
                let task = status.task.unwrap_or_default();
                let far = match status.steps {
                    0 => "it is preparing".to_string(),
                    steps => format!("step {} of {steps}", status.step),
                };
                return Err(ClientError::Refused(Failure::new(
                    FailureCode::BUSY,
                    format_args!(
                        "the device is tuning task `{task}` ({far}), no image was added\nhint: wait until `clr device tuning` reports its \
                         end, or `clr device stop-tuning`"
                    ),
                )));
            }
            self.clock.sleep(STEP);
        }
    }
}
