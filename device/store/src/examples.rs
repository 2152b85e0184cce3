//! Labelled images of a task, for teaching and tuning.
//!
//! `root/examples/<encoded task>/<sha256 of the image>` consists of a sealed head ([`crate::sealed`]) and the image as
//! received. The head contains the label, the time of addition and the length of the image, in postcard.

use std::{io, sync::atomic::Ordering};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    atomic::{self, Failure, is_unfinished},
    error::StoreError,
    layout::{EXAMPLES, encoded, examples_of},
    names,
    problem::Damage,
    sealed,
    storage::{Entry, EntryKind, on_disk, parent, read_file},
    store::Store,
};

/// Maximum bytes of a head.
const HEAD: usize = 1 << 10;
/// Label of an unlabelled image in its file.
const UNLABELLED: &str = " ";

/// A labelled image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExample {
    /// SHA-256 of the image.
    pub id: Digest,
    /// The class that it shows; `None` for an unlabelled image.
    pub label: Option<String>,
    /// Bytes of the image.
    pub bytes: u64,
    /// Time of addition, in seconds since 1970-01-01 UTC; `None` if the device did not know the time.
    pub added: Option<u64>,
}

/// Outcome of adding an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddOutcome {
    /// The image is new.
    Added {
        /// SHA-256 of the image.
        id: Digest,
    },
    /// The image already existed with this label.
    Duplicate {
        /// SHA-256 of the image.
        id: Digest,
    },
    /// The image existed with another label, which was replaced.
    Relabelled {
        /// SHA-256 of the image.
        id: Digest,
        /// The previous label; `None` if the image was unlabelled.
        from: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    label: String,
    added: Option<u64>,
    bytes: u64,
}

/// Parses the head of an example from the first bytes of its file. Returns the example and the length of the head in
/// bytes.
pub(crate) fn parse(name: &str, start: &[u8]) -> Result<(StoredExample, usize), Damage> {
    let id = names::digest(name).ok_or(Damage::Name)?;
    let (contents, rest) = sealed::open_prefix(sealed::EXAMPLE, start)?;
    let Ok((Head { label, added, bytes }, [])) = postcard::take_from_bytes(contents) else {
        return Err(Damage::Form);
    };
    Ok((
        StoredExample {
            id,
            label: (label != UNLABELLED).then_some(label),
            bytes,
            added,
        },
        start.len() - rest.len(),
    ))
}

/// Parses a complete file. Returns the example and its image.
pub(crate) fn parse_file(name: &str, file: &[u8]) -> Result<(StoredExample, Vec<u8>), Damage> {
    let (example, head) = parse(name, file)?;
    let image = &file[head..];
    if image.len() as u64 != example.bytes {
        return Err(Damage::Short);
    }
    if Digest::of(image) != example.id {
        return Err(Damage::Name);
    }
    Ok((example, image.to_vec()))
}

impl Store {
    /// Adds an image durably, with or without a label. If the image exists already, only its label is replaced. The
    /// task does not need an adapter. `now` is in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`StoreError::Name`] if the task's name is invalid; [`StoreError::Label`] if the label is invalid;
    /// [`StoreError::Full`] if a cap is reached; [`StoreError::Io`] if the image cannot be written.
    pub fn add_example(
        &self,
        task: &str,
        label: Option<&str>,
        image: &[u8],
        now: Option<u64>,
    ) -> Result<AddOutcome, StoreError> {
        self.check_name(task)?;
        let stored_label = label.unwrap_or(UNLABELLED);
        let invalid = || StoreError::Label {
            label: stored_label.to_owned(),
        };
        if let Some(label) = label
            && (label.is_empty()
                || label == UNLABELLED
                || label.len() > self.options.limits.label_bytes.min(512)
                || label.chars().any(char::is_control))
        {
            return Err(invalid());
        }
        let mut writer = self.writer();
        self.prepare(&mut writer)?;
        self.finish_erasing(&mut writer, task)?;
        let name = encoded(task)?;
        let directory = examples_of(&name);
        let entries = match self.storage.list(&directory) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("list", &directory)(error)),
        };
        let id = Digest::of(image);
        let path = format!("{directory}/{id}");
        let there = entries.iter().flatten().any(|entry| entry.name == id.to_string());
        let previous = if there {
            self.read_example_file(&path).ok()
        } else {
            None
        };
        let known = previous
            .as_deref()
            .and_then(|file| parse_file(&id.to_string(), file).ok());
        let previous_label = known.map(|(example, _)| example.label);
        if previous_label
            .as_ref()
            .is_some_and(|previous| previous.as_deref() == label)
        {
            return Ok(AddOutcome::Duplicate { id });
        }
        if !there {
            self.check_caps(entries.as_deref().unwrap_or_default(), image.len() as u64)?;
            self.check_task_cap(task)?;
            self.check_room(&mut writer, image.len() as u64 + HEAD as u64)?;
        }
        if entries.is_none() {
            self.storage
                .create_directory(&directory)
                .map_err(StoreError::io("create", &directory))?;
        }
        // Synced even if the directory already exists, because it may be left from an attempt that failed at this step.
        self.storage
            .sync_directory(EXAMPLES)
            .map_err(StoreError::io("sync", &directory))?;
        let bytes = image.len() as u64;
        let head = Head {
            label: stored_label.to_owned(),
            added: now,
            bytes,
        };
        let head = postcard::to_allocvec(&head).map_err(|_| invalid())?;
        let mut file = sealed::seal(sealed::EXAMPLE, &head);
        file.extend_from_slice(image);
        atomic::replace(&*self.storage, &path, &file, previous.as_deref()).map_err(Failure::into_error)?;
        self.written.examples.fetch_add(file.len() as u64, Ordering::Relaxed);
        if !there {
            self.usage(&mut writer)?.examples += on_disk(file.len() as u64);
            self.note_taught(task, true);
        }
        Ok(previous_label.map_or(AddOutcome::Added { id }, |from| AddOutcome::Relabelled { id, from }))
    }

    fn check_caps(&self, entries: &[Entry], image: u64) -> Result<(), StoreError> {
        let caps = &self.options.caps;
        let examples = entries.iter().filter(|entry| !is_unfinished(&entry.name));
        let (count, bytes) = examples.fold((1, image), |(count, bytes), entry| (count + 1, bytes + entry.bytes));
        let hint = "remove examples of the task, or raise the device's cap";
        for (what, cap, got) in [
            ("bytes of an example", caps.example_bytes, image),
            ("examples of a task", caps.examples_per_task as u64, count),
            ("bytes of a task's examples", caps.examples_bytes_per_task, bytes),
        ] {
            if got > cap {
                return Err(StoreError::Full { what, cap, got, hint });
            }
        }
        Ok(())
    }

    fn read_example_file(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        let cap = self.options.caps.example_bytes.saturating_add(HEAD as u64);
        read_file(&*self.storage, path, cap).map_err(StoreError::io("read", path))
    }

    /// Lists a task's labelled images, oldest first. Damaged images are left out; [`Store::verify`] reports them.
    ///
    /// # Errors
    /// [`StoreError::Name`] if the task's name is invalid; [`StoreError::Io`] if the images cannot be listed.
    pub fn examples(&self, task: &str) -> Result<Vec<StoredExample>, StoreError> {
        let directory = examples_of(&encoded(task)?);
        if self.snapshot().records.get(task).is_some_and(|record| record.erasing) {
            return Ok(Vec::new());
        }
        let entries = match self.storage.list(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(StoreError::io("list", &directory))?,
        };
        let mut examples = Vec::with_capacity(entries.len());
        for Entry { name, .. } in entries
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::File && !is_unfinished(&entry.name))
        {
            let path = format!("{directory}/{name}");
            match self.storage.read(&path, 0, HEAD) {
                Ok(start) => match parse(&name, &start) {
                    Ok((example, _)) => examples.push(example),
                    Err(damage) => tracing::warn!(file = path, %damage, "damaged example left out"),
                },
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file = path, %error, "unreadable example left out"),
            }
        }
        examples.sort_by_key(|example| (example.added, example.id));
        Ok(examples)
    }

    /// Lists the tasks that have images, sorted by name. A listed task may have no adapter.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be listed.
    pub fn example_tasks(&self) -> Result<Vec<String>, StoreError> {
        let entries = match self.storage.list(EXAMPLES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(StoreError::io("list", EXAMPLES))?,
        };
        let mut tasks: Vec<String> = (entries.iter())
            .filter(|entry| entry.kind == EntryKind::Directory)
            .filter_map(|entry| names::decode(&entry.name))
            .collect();
        tasks.sort_unstable();
        Ok(tasks)
    }

    /// Returns a labelled image as received.
    ///
    /// # Errors
    /// [`StoreError::NoSuchExample`] if the task has no such image; [`StoreError::Damaged`] if its file is damaged;
    /// [`StoreError::Io`] if its file cannot be read.
    pub fn example(&self, task: &str, id: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.example_path(task, id)?;
        let file = self
            .read_example_file(&path)
            .map_err(|error| no_such(task, id, error))?;
        let (_, image) =
            parse_file(&id.to_string(), &file).map_err(|damage| StoreError::Damaged { file: path, damage })?;
        Ok(image)
    }

    /// Removes a labelled image.
    ///
    /// # Errors
    /// [`StoreError::NoSuchExample`] if the task has no such image; [`StoreError::Io`] if it cannot be removed.
    pub fn remove_example(&self, task: &str, id: &Digest) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let path = self.example_path(task, id)?;
        let previous = self
            .read_example_file(&path)
            .map_err(|error| no_such(task, id, error))?;
        atomic::delete(&*self.storage, &path, &previous).map_err(Failure::into_error)?;
        if let Some(usage) = &mut writer.usage {
            usage.examples = usage.examples.saturating_sub(on_disk(previous.len() as u64));
        }
        let directory = parent(&path);
        // A task without an adapter and without examples no longer counts towards the cap on tasks.
        if self.storage.list(directory).is_ok_and(|entries| entries.is_empty())
            && self.storage.remove_directory(directory).is_ok()
        {
            self.note_taught(task, false);
        }
        Ok(())
    }

    fn example_path(&self, task: &str, id: &Digest) -> Result<String, StoreError> {
        if self.snapshot().records.get(task).is_some_and(|record| record.erasing) {
            return Err(StoreError::NoSuchExample {
                task: task.to_owned(),
                id: *id,
            });
        }
        Ok(format!("{}/{id}", examples_of(&encoded(task)?)))
    }
}

fn no_such(task: &str, id: &Digest, error: StoreError) -> StoreError {
    match error {
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => StoreError::NoSuchExample {
            task: task.to_owned(),
            id: *id,
        },
        error => error,
    }
}
