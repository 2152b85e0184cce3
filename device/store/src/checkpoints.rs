//! Run states of tuning, which a device resumes after a restart. The store does not interpret their contents.
//!
//! `root/checkpoints/<encoded task>` is a sealed file ([`crate::sealed`]) that contains the tuner's bytes.

use std::io;

use crate::{
    atomic::{self, Failure},
    error::StoreError,
    layout::{checkpoint_of, encoded},
    sealed,
    storage::{on_disk, read_file},
    store::Store,
};

impl Store {
    /// Stores the run state of a task's tuning. A previous state is replaced.
    ///
    /// # Errors
    /// [`StoreError::Name`] if the task's name is invalid; [`StoreError::Full`] if the state exceeds a cap;
    /// [`StoreError::Io`] if it cannot be written.
    pub fn put_checkpoint(&self, task: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_name(task)?;
        let (cap, got) = (self.checkpoint_cap(), bytes.len() as u64);
        if got > cap {
            let hint = "tune fewer parameters, or raise the device's cap";
            return Err(StoreError::Full {
                what: "bytes of a checkpoint",
                cap,
                got,
                hint,
            });
        }
        let mut writer = self.writer();
        self.prepare(&mut writer)?;
        self.finish_erasing(&mut writer, task)?;
        self.check_task_cap(task)?;
        let name = encoded(task)?;
        let path = checkpoint_of(&name);
        // If the old file is unreadable, there is nothing to restore.
        let previous = self.read_checkpoint_file(&path).unwrap_or_default();
        let file = sealed::seal(sealed::CHECKPOINT, bytes);
        // The old and the new file briefly exist at the same time.
        self.check_room(&mut writer, file.len() as u64)?;
        atomic::replace(&*self.storage, &path, &file, previous.as_deref()).map_err(Failure::into_error)?;
        self.usage(&mut writer)?
            .checkpoints
            .insert(name, on_disk(file.len() as u64));
        Ok(())
    }

    /// Returns the run state of a task's tuning; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the state is damaged: the caller should then clear it and start the run again;
    /// [`StoreError::Name`] if the task's name is invalid; [`StoreError::Io`] if the state cannot be read.
    pub fn checkpoint(&self, task: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = checkpoint_of(&encoded(task)?);
        if self.snapshot().records.get(task).is_some_and(|record| record.erasing) {
            return Ok(None);
        }
        let Some(file) = self.read_checkpoint_file(&path)? else {
            return Ok(None);
        };
        match sealed::open(sealed::CHECKPOINT, &file) {
            Ok(contents) => Ok(Some(contents.to_vec())),
            Err(damage) => Err(StoreError::Damaged { file: path, damage }),
        }
    }

    /// Removes the run state of a task's tuning, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Name`] if the task's name is invalid; [`StoreError::Io`] if the state cannot be removed.
    pub fn clear_checkpoint(&self, task: &str) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let name = encoded(task)?;
        let path = checkpoint_of(&name);
        let previous = match self.read_checkpoint_file(&path) {
            Ok(None) => return Ok(()),
            Ok(Some(previous)) => previous,
            Err(error) => {
                tracing::warn!(task, %error, "unreadable checkpoint removed");
                Vec::new()
            }
        };
        atomic::delete(&*self.storage, &path, &previous).map_err(Failure::into_error)?;
        if let Some(usage) = &mut writer.usage {
            usage.checkpoints.remove(&name);
        }
        Ok(())
    }

    pub(crate) fn checkpoint_cap(&self) -> u64 {
        self.options.caps.checkpoint_bytes.min(u64::from(u32::MAX))
    }

    fn read_checkpoint_file(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let cap = self.checkpoint_cap() + sealed::OVERHEAD as u64;
        match read_file(&*self.storage, path, cap) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).map_err(StoreError::io("read", path)),
        }
    }
}
