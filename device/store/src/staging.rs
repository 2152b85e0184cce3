//! Uploads without an announcement. They are held in memory until they are verified, so no unsigned byte reaches the
//! disk.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use clr_adapters::Digest;

use crate::{
    error::StoreError,
    options::Caps,
    piece::{GRACE, Piece},
};

/// An upload is dropped if it has not grown for this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The uploads in memory.
#[derive(Default)]
pub(crate) struct Staging {
    uploads: HashMap<Digest, Staged>,
}

struct Staged {
    /// Number of bytes announced.
    length: u64,
    bytes: Vec<u8>,
    /// Time at which the upload last grew.
    grown: Instant,
}

impl Staging {
    /// Begins or resumes an upload. Returns the number of bytes held.
    pub(crate) fn begin(&mut self, caps: &Caps, digest: Digest, length: u64, now: Instant) -> Result<u64, StoreError> {
        if let Some(upload) = self.uploads.get(&digest)
            && upload.length == length
        {
            return Ok(upload.bytes.len() as u64);
        }
        self.uploads.remove(&digest);
        self.make_room(caps, length, now)?;
        let upload = Staged {
            length,
            bytes: Vec::new(),
            grown: now,
        };
        self.uploads.insert(digest, upload);
        Ok(0)
    }

    fn make_room(&mut self, caps: &Caps, length: u64, now: Instant) -> Result<(), StoreError> {
        if length > caps.staged_bytes {
            return Err(StoreError::Full {
                what: "bytes of uploads without an announcement",
                cap: caps.staged_bytes,
                got: length,
                hint: "sign the file with `clr sign`, so that its upload is announced, or raise the device's cap",
            });
        }
        self.drop_stalled(PATIENCE, now);
        loop {
            let announced = self.uploads.values().map(|upload| upload.length).sum::<u64>();
            if self.uploads.len() < caps.staged_files.max(1) && announced + length <= caps.staged_bytes {
                return Ok(());
            }
            let stalled = |upload: &Staged| now.saturating_duration_since(upload.grown) >= GRACE;
            let stalest = self.uploads.iter().filter(|(_, upload)| stalled(upload));
            let stalest = stalest
                .min_by_key(|(_, upload)| upload.grown)
                .map(|(digest, _)| *digest);
            let Some(stalest) = stalest else {
                return Err(StoreError::Busy {
                    uploads: self.uploads.len(),
                });
            };
            tracing::info!(digest = %stalest, "longest stalled upload dropped for another");
            self.uploads.remove(&stalest);
        }
    }

    /// Appends a piece. Returns the number of bytes held.
    pub(crate) fn append(
        &mut self,
        digest: Digest,
        offset: u64,
        bytes: &[u8],
        now: Instant,
    ) -> Result<u64, StoreError> {
        let upload = self
            .uploads
            .get_mut(&digest)
            .ok_or(StoreError::NoSuchUpload { digest })?;
        let held = upload.bytes.len() as u64;
        let piece = Piece {
            digest,
            length: upload.length,
            held,
        };
        let data = piece.fresh(offset, bytes)?;
        if data.is_empty() {
            return Ok(held);
        }
        upload.reserve(data.len())?;
        upload.bytes.extend_from_slice(data);
        upload.grown = now;
        Ok(upload.bytes.len() as u64)
    }

    /// Returns whether an upload of this digest is held.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.uploads.contains_key(digest)
    }

    /// Removes and returns a complete upload; `None` if there is none.
    pub(crate) fn take(&mut self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(upload) = self.uploads.get(&digest) else {
            return Ok(None);
        };
        let (expected, got) = (upload.length, upload.bytes.len() as u64);
        if expected != got {
            return Err(StoreError::UploadLength { digest, expected, got });
        }
        Ok(self.uploads.remove(&digest).map(|upload| upload.bytes))
    }

    /// Puts back an upload that was removed but could not be used yet.
    pub(crate) fn put_back(&mut self, digest: Digest, bytes: Vec<u8>, now: Instant) {
        let upload = Staged {
            length: bytes.len() as u64,
            bytes,
            grown: now,
        };
        self.uploads.insert(digest, upload);
    }

    /// Removes an upload.
    pub(crate) fn discard(&mut self, digest: &Digest) {
        self.uploads.remove(digest);
    }

    /// Drops all uploads that have not grown for `patience`.
    pub(crate) fn drop_stalled(&mut self, patience: Duration, now: Instant) {
        self.uploads.retain(|digest, upload| {
            let keep = now.saturating_duration_since(upload.grown) < patience;
            if !keep {
                tracing::info!(%digest, held = upload.bytes.len(), "stalled upload dropped");
            }
            keep
        });
    }
}

impl Staged {
    /// Reserves memory for a piece by doubling the capacity, up to the announced length.
    fn reserve(&mut self, piece: usize) -> Result<(), StoreError> {
        let needed = self.bytes.len() + piece;
        if needed > self.bytes.capacity() {
            let wanted = needed.max(2 * self.bytes.len()).min(self.length as usize);
            self.bytes
                .try_reserve_exact(wanted - self.bytes.len())
                .map_err(|_| StoreError::Busy { uploads: 1 })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        staged_files: 2,
        staged_bytes: 1_000,
        ..Caps::DEFAULT
    };

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn only_a_stalled_upload_is_displaced() {
        let (mut staging, start) = (Staging::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for number in 0..2 {
            assert_eq!(staging.begin(&CAPS, digest(number), 100, at(0)).unwrap(), 0);
        }
        let third = staging.begin(&CAPS, digest(2), 100, at(4));
        assert!(matches!(third, Err(StoreError::Busy { uploads: 2 })));
        assert_eq!(staging.append(digest(0), 0, &[7; 60], at(4)).unwrap(), 60);
        // A repeated begin is not growth.
        assert_eq!(staging.begin(&CAPS, digest(1), 100, at(5)).unwrap(), 0);
        assert_eq!(staging.begin(&CAPS, digest(2), 100, at(5)).unwrap(), 0);
        assert!(!staging.contains(&digest(1)));
        assert_eq!(staging.begin(&CAPS, digest(0), 100, at(5)).unwrap(), 60);
        assert_eq!(staging.append(digest(0), 60, &[7; 40], at(6)).unwrap(), 100);
        assert_eq!(staging.take(digest(0)).unwrap(), Some(vec![7; 100]));
        assert_eq!(staging.take(digest(0)).unwrap(), None);
    }

    #[test]
    fn an_upload_that_stalls_for_a_minute_is_dropped() {
        let (mut staging, start) = (Staging::default(), Instant::now());
        staging.begin(&CAPS, digest(0), 100, start).unwrap();
        staging
            .append(digest(0), 0, &[1; 50], start + Duration::from_secs(30))
            .unwrap();
        staging.drop_stalled(PATIENCE, start + Duration::from_secs(89));
        assert!(staging.contains(&digest(0)));
        staging.drop_stalled(PATIENCE, start + Duration::from_secs(90));
        assert!(!staging.contains(&digest(0)));
    }

    #[test]
    fn the_total_of_announced_bytes_is_capped_and_not_reserved() {
        let (mut staging, now) = (Staging::default(), Instant::now());
        let huge = staging.begin(&CAPS, digest(0), u64::MAX, now);
        assert!(matches!(huge, Err(StoreError::Full { .. })));
        staging.begin(&CAPS, digest(0), 600, now).unwrap();
        let more = staging.begin(&CAPS, digest(1), 401, now);
        assert!(matches!(more, Err(StoreError::Busy { uploads: 1 })));
        assert_eq!(staging.uploads[&digest(0)].bytes.capacity(), 0);
        staging.append(digest(0), 0, &[0; 400], now).unwrap();
        staging.append(digest(0), 400, &[0; 100], now).unwrap();
        assert_eq!(staging.uploads[&digest(0)].bytes.capacity(), 600);
        assert!(matches!(
            staging.append(digest(0), 500, &[0; 101], now),
            Err(StoreError::UploadLength { .. })
        ));
    }
}
