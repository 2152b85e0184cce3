//! Uploads in progress: announced ones on the disk, all others in memory.

use std::{sync::atomic::Ordering, time::Instant};

use clr_adapters::{Digest, Refusal, SignedRelease, admit_release};

use super::{Store, Writer};
use crate::{error::StoreError, staging, written::Written};

impl Store {
    /// Begins an upload without an announcement, or resumes it as long as the store is open. Returns the number of
    /// bytes held, at which the peer continues. If the adapter is already on trial or confirmed, this is `length`, and
    /// [`Store::commit`] reports it. Nothing is written to the disk until [`Store::commit`] has verified the complete
    /// file.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`Refusal::TooLarge`] if `length` exceeds the limit, or with
    /// [`Refusal::WrongLength`] if it differs from the adapter that is already installed; [`StoreError::Full`] if a cap
    /// is reached; [`StoreError::Busy`] if other uploads use all the memory.
    pub fn begin(&self, digest: &Digest, length: u64) -> Result<u64, StoreError> {
        if let Some(held) = self.held_in_force(digest, length)? {
            return Ok(held);
        }
        let mut writer = self.writer();
        // An upload that began with an announcement continues on the disk.
        if let Some(held) = writer
            .incoming
            .resume(&*self.storage, digest, |upload| upload.length == length)?
        {
            return Ok(held);
        }
        let cap = (self.options.limits.file_bytes as u64).max(self.options.caps.example_bytes);
        if length > cap {
            return Err(Refusal::TooLarge {
                what: "bytes of the upload",
                cap,
                got: length,
            }
            .into());
        }
        writer.stage(&self.options.caps, *digest, length)
    }

    /// Begins an upload that is announced by a publisher's signature, or resumes it, also after a restart. Returns the
    /// number of bytes held durably.
    ///
    /// `target` is the announced file; `digest` and `length` are those of that file, or of a delta that produces it.
    /// The announcement is verified before any byte is written. Pieces are then written to the disk, up to the
    /// announced length. The upload is held in memory instead if another one by the same publisher for the same task is
    /// growing, or if the daily budget is spent.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if [`clr_adapters::admit_release`] refuses the announcement; also with
    /// [`Refusal::Downgrade`] or [`Refusal::Replay`] if the version is too low, or with [`Refusal::WrongLength`] if
    /// `length` is wrong; [`StoreError::Full`] or [`StoreError::Busy`] if there is no room for the upload;
    /// [`StoreError::Io`] if the upload cannot be written.
    pub fn begin_announced(
        &self,
        digest: &Digest,
        length: u64,
        announced: &SignedRelease,
        target: &Digest,
        now: Option<u64>,
    ) -> Result<u64, StoreError> {
        if let Some(held) = self.held_in_force(digest, length)? {
            return Ok(held);
        }
        // Verified without the writer's lock, so that repeated requests of a peer do not block writers.
        self.check_announced(announced, now)?;
        self.check_version(target, announced)?;
        let expected = announced.file_bytes();
        if length > expected || (target == digest && length < expected) {
            let got = length;
            return Err(Refusal::WrongLength { expected, got }.into());
        }
        let mut writer = self.writer();
        let (caps, at) = (&self.options.caps, Instant::now());
        let Writer { incoming, day, .. } = &mut *writer;
        let more = length - incoming.held(digest, length, announced).unwrap_or(0);
        if !incoming.may_begin(digest, announced, at) || !day.has_room(more, caps.upload_bytes_per_day, at) {
            return writer.stage(caps, *digest, length);
        }
        self.check_room(&mut writer, more)?;
        self.prepare(&mut writer)?;
        // The upload may have begun in memory, without its announcement.
        writer.staging.discard(digest);
        writer.incoming.begin(&*self.storage, caps, *digest, length, announced)
    }

    /// Checks an announcement against the current configuration.
    pub(crate) fn check_announced(&self, announced: &SignedRelease, now: Option<u64>) -> Result<(), Refusal> {
        self.with_policy(now, |policy| admit_release(announced, policy))
    }

    /// Refuses a version that the installation would refuse later. A known file may return with its own version.
    fn check_version(&self, target: &Digest, announced: &SignedRelease) -> Result<(), Refusal> {
        let release = &announced.release;
        let snapshot = self.snapshot();
        let Some(record) = snapshot.records.get(&release.task) else {
            return Ok(());
        };
        let (highest_admitted, version) = (record.state.highest_admitted, release.version);
        let known = record.known.contains(target);
        let task = release.task.clone();
        if version < highest_admitted && known {
            let digest = *target;
            return Err(Refusal::Replay { task, version, digest });
        }
        if version < highest_admitted || (version == highest_admitted && !known) {
            let got = version;
            return Err(Refusal::Downgrade {
                task,
                highest_admitted,
                got,
            });
        }
        Ok(())
    }

    /// Returns the length of the file if it is intact and already on trial or confirmed.
    fn held_in_force(&self, digest: &Digest, length: u64) -> Result<Option<u64>, Refusal> {
        let intact = self
            .in_force(digest)
            .filter(|(_, held)| self.read_adapter(held).is_ok());
        match intact {
            Some((_, held)) if length != held.bytes => Err(Refusal::WrongLength {
                expected: held.bytes,
                got: length,
            }),
            intact => Ok(intact.map(|_| length)),
        }
    }

    /// Appends a piece of an upload. Returns the number of bytes held; for an announced upload they are durable. Bytes
    /// that the store already holds are ignored.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`] if no such upload is in progress; [`StoreError::Offset`] if the piece leaves a gap;
    /// [`StoreError::UploadLength`] if the upload would be longer than announced; [`StoreError::Full`] if a cap is
    /// reached; [`StoreError::Io`] if the piece cannot be written.
    pub fn append(&self, digest: &Digest, offset: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let mut writer = self.writer();
        if writer.staging.contains(digest) {
            return writer.staging.append(*digest, offset, bytes, Instant::now());
        }
        let (held, written) = writer.incoming.append(&*self.storage, *digest, offset, bytes)?;
        writer.day.count(written);
        self.written.uploads.fetch_add(written, Ordering::Relaxed);
        Ok(held)
    }

    /// Discards an upload, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`] if its file cannot be removed.
    pub fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut writer = self.writer();
        writer.staging.discard(digest);
        writer.incoming.discard(&*self.storage, digest)
    }

    /// Returns the bytes of a complete upload after verifying its digest: a delta to apply, or an image to add. This
    /// call removes an upload that is held in memory. For others, call [`Store::discard`] afterwards.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`] if no such upload is in progress; [`StoreError::UploadLength`] if it is incomplete;
    /// [`StoreError::Refused`] with [`Refusal::WrongDigest`] if its digest is wrong, after which the upload is
    /// discarded; [`StoreError::Io`] if it cannot be read.
    pub fn upload(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut writer = self.writer();
        self.complete(&mut writer, digest)
    }

    /// Drops uploads in memory that have not grown for a minute. Never blocks; while the store is being changed, it
    /// does nothing.
    pub fn drop_stalled_uploads(&self) {
        if let Ok(mut writer) = self.writer.try_lock() {
            writer.staging.drop_stalled(staging::PATIENCE, Instant::now());
        }
    }

    /// Returns the bytes written on behalf of peers since the store was opened.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written.read()
    }

    pub(super) fn complete(&self, writer: &mut Writer, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let bytes = match writer.staging.take(*digest)? {
            Some(bytes) => bytes,
            None => writer.incoming.bytes(&*self.storage, *digest)?,
        };
        let got = Digest::of(&bytes);
        if got == *digest {
            return Ok(bytes);
        }
        self.drop_upload(writer, digest);
        Err(Refusal::WrongDigest { expected: *digest, got }.into())
    }

    pub(super) fn drop_upload(&self, writer: &mut Writer, digest: &Digest) {
        writer.staging.discard(digest);
        if let Err(error) = writer.incoming.discard(&*self.storage, digest) {
            tracing::warn!(%digest, %error, "cannot remove a finished upload; it is removed when the store is opened");
        }
    }
}

impl Writer {
    /// Puts back an upload that [`Store::complete`] removed from memory.
    pub(super) fn keep_upload(&mut self, digest: &Digest, bytes: Vec<u8>) {
        if !self.incoming.contains(digest) {
            self.staging.put_back(*digest, bytes, Instant::now());
        }
    }

    /// Begins an upload in memory.
    fn stage(&mut self, caps: &crate::Caps, digest: Digest, length: u64) -> Result<u64, StoreError> {
        self.staging.begin(caps, digest, length, Instant::now())
    }
}
