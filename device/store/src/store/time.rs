//! The highest time ever recorded, to detect a clock that was lost or set back.

use std::sync::Arc;

use super::{Snapshot, Store};
use crate::{atomic::Failure, copies, error::StoreError, layout::TIME, problem::Damage, sealed};

/// The time in a file.
pub(crate) fn parse(file: &[u8]) -> Result<u64, Damage> {
    let contents = sealed::open(sealed::TIME, file)?;
    contents.try_into().map(u64::from_le_bytes).map_err(|_| Damage::Form)
}

impl Store {
    /// Returns the highest recorded time in seconds since 1970-01-01 UTC; `None` if none was recorded.
    #[must_use]
    pub fn time_floor(&self) -> Option<u64> {
        self.snapshot().time
    }

    /// Records a time, unless a higher one is recorded. Each call writes to the disk, so the caller must limit the
    /// number of calls.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the time cannot be written.
    pub fn raise_time_floor(&self, seconds: u64) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let before = self.snapshot().time;
        if before.is_some_and(|before| before >= seconds) {
            return Ok(());
        }
        self.prepare(&mut writer)?;
        let seal = |seconds: u64| sealed::seal(sealed::TIME, &seconds.to_le_bytes());
        let previous = before.map(seal);
        let copy = copies::of_root(TIME);
        let (result, _) = copies::replace(&*self.storage, TIME, &copy, &seal(seconds), previous.as_deref());
        if matches!(result, Ok(()) | Err(Failure::InDoubt(_))) {
            let mut after = Snapshot::clone(&self.snapshot());
            after.time = Some(seconds);
            self.snapshot.store(Arc::new(after));
        }
        result.map_err(Failure::into_error)
    }
}
