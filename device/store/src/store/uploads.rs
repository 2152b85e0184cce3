//! Uploads under way: announced ones on the disk, all others in memory.

use std::{sync::atomic::Ordering, time::Instant};

use clr_adapters::{Digest, Refusal, SignedRelease, admit_release};

use super::{Store, Writer};
use crate::{error::StoreError, staging, written::Written};

impl Store {
    /// Begins an upload without an announcement, or resumes it while the store is open; returns how many bytes are held: go on there.
    /// Nothing of it is written before [`Store::commit`] has verified all of it. Equals `length` if the adapter is on trial or confirmed
    /// already; [`Store::commit`] then says so.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`], [`Refusal::WrongLength`], [`StoreError::Full`], [`StoreError::Busy`].
    pub fn begin(&self, digest: &Digest, length: u64) -> Result<u64, StoreError> {
        if let Some(held) = self.held_in_force(digest, length)? {
            return Ok(held);
        }
        let mut writer = self.writer();
        // One that was announced before continues where it is.
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

    /// Begins an upload that a publisher's signature announces, or resumes it, also after a restart; returns how many bytes are held
    /// durably. `target` is the announced file; `digest` and `length` are of that file, or of a delta that gives it. The announcement is verified before a byte
    /// is written; what follows is written to the disk piece by piece, within the length announced. Where another upload of the same
    /// publisher for the same task is growing, or today's budget is spent, this one is held in memory.
    ///
    /// # Errors
    /// [`StoreError::Refused`] as [`clr_adapters::admit_release`] has it, [`Refusal::Downgrade`], [`Refusal::WrongLength`];
    /// [`StoreError::Full`], [`StoreError::Busy`], [`StoreError::Io`].
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
        // No writer waits for this, however often a peer asks.
        self.check_announced(announced, now)?;
        self.check_floor(target, announced)?;
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
        // It may have been begun without its announcement.
        writer.staging.discard(digest);
        writer.incoming.begin(&*self.storage, caps, *digest, length, announced)
    }

    /// Checks an announcement against what is configured now.
    pub(crate) fn check_announced(&self, announced: &SignedRelease, now: Option<u64>) -> Result<(), Refusal> {
        self.with_policy(now, |policy| admit_release(announced, policy))
    }

    /// Refuses a version that would be refused when it is here. What the store has known may return at its own version.
    fn check_floor(&self, target: &Digest, announced: &SignedRelease) -> Result<(), Refusal> {
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
            return Err(Refusal::Downgrade { task, highest_admitted, got });
        }
        Ok(())
    }

    /// The length of what is in force already and intact.
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

    /// Takes a piece of an upload; returns how many bytes are held now: durably, if it was announced. Bytes that are held already are
    /// ignored.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`], [`StoreError::Offset`], [`StoreError::UploadLength`], [`StoreError::Full`], [`StoreError::Io`].
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

    /// Gives an upload up. Nothing happens if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn discard(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut writer = self.writer();
        writer.staging.discard(digest);
        writer.incoming.discard(&*self.storage, digest)
    }

    /// The bytes of an upload that is complete, compared with its digest: a delta to be applied, an image to be filed.
    /// One that is held in memory is given away with this; [`Store::discard`] the others afterwards.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUpload`], [`StoreError::UploadLength`], [`StoreError::Io`], and [`Refusal::WrongDigest`], with which the upload is
    /// discarded.
    pub fn upload(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut writer = self.writer();
        self.complete(&mut writer, digest)
    }

    /// Drops uploads in memory that have not grown for a minute. It never blocks: where the store is being changed, it does nothing.
    pub fn drop_stalled_uploads(&self) {
        if let Ok(mut writer) = self.writer.try_lock() {
            writer.staging.drop_stalled(staging::PATIENCE, Instant::now());
        }
    }

    /// Bytes written on behalf of peers since the store was opened.
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
            tracing::warn!(%digest, %error, "cannot remove an upload that is done with; it goes when the store is opened");
        }
    }
}

impl Writer {
    /// Puts back what [`Store::complete`] gave away, if it was in memory.
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
