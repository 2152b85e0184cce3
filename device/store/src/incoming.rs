//! Announced uploads in progress, stored on the disk. The number of bytes reported to the peer is durable.
//!
//! `root/incoming/<sha256>.part` consists of a sealed head ([`crate::sealed`]) and one frame per received piece. The
//! head contains the length of the upload (8 bytes, little-endian) and the announcement, encoded as in a file's
//! trailer. A frame is: 4 bytes length, 4 bytes CRC-32 of the piece's offset (8 bytes, little-endian) and data, the
//! data. Each frame is synced before its bytes are reported. After a power cut, the frames before the first torn one
//! are kept.
//!
//! Each publisher's key has at most one upload per task.

use std::{collections::HashMap, time::Instant};

use clr_adapters::{Digest, Refusal, SignedRelease};

use crate::{
    error::StoreError,
    layout::INCOMING,
    options::Caps,
    piece::{GRACE, Piece},
    problem::Damage,
    sealed,
    storage::{Storage, StorageFile, on_disk},
};

/// Suffix of the files of uploads.
pub(crate) const ENDING: &str = ".part";

/// Maximum bytes of a head.
const LARGEST_HEAD: usize = 8 + SignedRelease::MAX_BYTES + sealed::OVERHEAD;
const FRAME: usize = 8;
/// Maximum bytes of all frame heads of an upload. Without this cap, a peer that sends single bytes could fill the disk
/// with eight times its data.
const SLACK: u64 = 64 << 10;

/// The uploads in progress.
#[derive(Default)]
pub(crate) struct Incoming {
    uploads: HashMap<Digest, Upload>,
    clock: u64,
}

pub(crate) struct Upload {
    /// Bytes of the upload.
    pub(crate) length: u64,
    /// The upload's announcement.
    announced: SignedRelease,
    /// Number of bytes held durably.
    held: u64,
    /// Offset of the next frame in the file.
    end: u64,
    /// Whether a failed write may have left bytes after `end`.
    torn: bool,
    file: Option<Box<dyn StorageFile>>,
    touched: u64,
    /// Time at which the upload last grew; `None` if it has not grown since the store was opened.
    grown: Option<Instant>,
}

pub(crate) fn path(digest: &Digest) -> String {
    format!("{INCOMING}/{digest}{ENDING}")
}

fn checksum(offset: u64, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(data);
    hasher.finalize()
}

/// The intact contents of an upload's file.
pub(crate) struct Parsed {
    length: u64,
    announced: SignedRelease,
    held: u64,
    end: u64,
    torn: bool,
}

/// Visits the frames of an upload and passes the data of each to `each`.
pub(crate) fn walk(storage: &dyn Storage, path: &str, mut each: impl FnMut(&[u8])) -> Result<Parsed, StoreError> {
    let read = |offset, length| storage.read(path, offset, length).map_err(StoreError::io("read", path));
    let damaged = |damage| StoreError::Damaged {
        file: path.to_owned(),
        damage,
    };
    let size = storage.length(path).map_err(StoreError::io("read", path))?;
    let start = read(0, LARGEST_HEAD)?;
    let (contents, rest) = sealed::open_prefix(sealed::PART, &start).map_err(damaged)?;
    let form = || damaged(Damage::Form);
    let (length, announced) = contents.split_first_chunk::<8>().ok_or_else(form)?;
    let length = u64::from_le_bytes(*length);
    let announced = SignedRelease::from_bytes(announced).map_err(|_| form())?;
    let (mut held, mut end) = (0_u64, (start.len() - rest.len()) as u64);
    while let Some((frame, [])) = read(end, FRAME)?.split_first_chunk::<FRAME>() {
        let [a, b, c, d, crc @ ..] = *frame;
        let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
        let fits = bytes > 0 && bytes <= size - end - FRAME as u64 && bytes <= length.saturating_sub(held);
        if !fits {
            break;
        }
        let data = read(end + FRAME as u64, bytes as usize)?;
        if checksum(held, &data) != u32::from_le_bytes(crc) {
            break;
        }
        each(&data);
        held += bytes;
        end += FRAME as u64 + bytes;
    }
    let torn = end != size;
    Ok(Parsed {
        length,
        announced,
        held,
        end,
        torn,
    })
}

impl Incoming {
    /// Adds an upload that was found on the disk, if its announcement is still valid.
    pub(crate) fn adopt(
        &mut self,
        storage: &dyn Storage,
        digest: Digest,
        check: impl Fn(&SignedRelease) -> Result<(), Refusal>,
    ) -> Result<(), StoreError> {
        let Parsed {
            length,
            announced,
            held,
            end,
            torn,
        } = walk(storage, &path(&digest), |_| ())?;
        check(&announced)?;
        let upload = Upload {
            length,
            announced,
            held,
            end,
            torn,
            file: None,
            touched: 0,
            grown: None,
        };
        self.uploads.insert(digest, upload);
        Ok(())
    }

    /// Returns whether an upload may take its publisher's only slot for the task. An upload that is growing keeps the
    /// slot, unless the other one has a higher version.
    pub(crate) fn may_begin(&self, digest: &Digest, announced: &SignedRelease, now: Instant) -> bool {
        self.uploads.iter().all(|(other, upload)| {
            let grows = upload
                .grown
                .is_some_and(|grown| now.saturating_duration_since(grown) < GRACE);
            other == digest
                || !is_same_place(&upload.announced, announced)
                || !grows
                || announced.release.version > upload.announced.release.version
        })
    }

    /// Returns the number of bytes held of the upload with this digest, length and announcement; `None` if there is
    /// none.
    pub(crate) fn held(&self, digest: &Digest, length: u64, announced: &SignedRelease) -> Option<u64> {
        let upload = self.uploads.get(digest)?;
        (upload.length == length && upload.announced == *announced).then_some(upload.held)
    }

    /// Resumes an upload with this announcement. Returns the number of bytes held durably.
    pub(crate) fn resume(
        &mut self,
        storage: &dyn Storage,
        digest: &Digest,
        is_meant: impl Fn(&Upload) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        self.clock += 1;
        let Some(upload) = self.uploads.get_mut(digest).filter(|upload| is_meant(upload)) else {
            return Ok(None);
        };
        upload.touched = self.clock;
        if upload.file.is_none() {
            // The upload was found when the store was opened, so its last frame may not have been synced.
            let path = path(digest);
            let mut file = storage.open(&path).map_err(StoreError::io("open", &path))?;
            file.sync().map_err(StoreError::io("sync", &path))?;
            storage
                .sync_directory(INCOMING)
                .map_err(StoreError::io("sync the folder of", &path))?;
            upload.file = Some(file);
        }
        Ok(Some(upload.held))
    }

    /// Begins or resumes an announced upload, and discards another upload in the same slot. Returns the number of bytes
    /// held durably.
    pub(crate) fn begin(
        &mut self,
        storage: &dyn Storage,
        caps: &Caps,
        digest: Digest,
        length: u64,
        announced: &SignedRelease,
    ) -> Result<u64, StoreError> {
        let same = |upload: &Upload| upload.length == length && upload.announced == *announced;
        if let Some(held) = self.resume(storage, &digest, same)? {
            return Ok(held);
        }
        self.discard(storage, &digest)?;
        let before = self.uploads.iter();
        let before = before.filter(|(_, upload)| is_same_place(&upload.announced, announced));
        let before: Vec<Digest> = before.map(|(other, _)| *other).collect();
        for other in before {
            self.discard(storage, &other)?;
        }
        self.make_room(storage, caps, length)?;
        let path = path(&digest);
        let head = [&length.to_le_bytes()[..], &announced.to_bytes()].concat();
        let head = sealed::seal(sealed::PART, &head);
        let created = (|| {
            let mut file = storage.create(&path).map_err(StoreError::io("create", &path))?;
            file.write(0, &head).map_err(StoreError::io("write", &path))?;
            // The head is synced together with the first piece. Before that, there is no data to lose.
            storage
                .sync_directory(INCOMING)
                .map_err(StoreError::io("sync the folder of", &path))?;
            Ok(file)
        })();
        let file = created.inspect_err(|_: &StoreError| drop(storage.remove(&path)))?;
        let upload = Upload {
            length,
            announced: announced.clone(),
            held: 0,
            end: head.len() as u64,
            torn: false,
            file: Some(file),
            touched: self.clock,
            grown: None,
        };
        self.uploads.insert(digest, upload);
        Ok(0)
    }

    fn make_room(&mut self, storage: &dyn Storage, caps: &Caps, length: u64) -> Result<(), StoreError> {
        if length > caps.incoming_bytes {
            return Err(StoreError::Full {
                what: "bytes of announced uploads in progress",
                cap: caps.incoming_bytes,
                got: length,
                hint: "raise the device's cap, or send less",
            });
        }
        loop {
            let announced = self.uploads.values().map(|upload| upload.length).sum::<u64>();
            if self.uploads.len() < caps.incoming_files.max(1) && announced + length <= caps.incoming_bytes {
                return Ok(());
            }
            let stalest = self.uploads.iter().min_by_key(|(_, upload)| upload.touched);
            let Some(stalest) = stalest.map(|(digest, _)| *digest) else {
                return Ok(());
            };
            tracing::info!(digest = %stalest, "least recently used upload dropped for another");
            self.discard(storage, &stalest)?;
        }
    }

    /// Appends a piece. Returns the number of bytes held durably and the number of bytes written. Bytes that the upload
    /// already has are not written again.
    pub(crate) fn append(
        &mut self,
        storage: &dyn Storage,
        digest: Digest,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(u64, u64), StoreError> {
        self.clock += 1;
        let upload = self
            .uploads
            .get_mut(&digest)
            .ok_or(StoreError::NoSuchUpload { digest })?;
        upload.touched = self.clock;
        let piece = Piece {
            digest,
            length: upload.length,
            held: upload.held,
        };
        let data = piece.fresh(offset, bytes)?;
        if data.is_empty() {
            return Ok((upload.held, 0));
        }
        let mut frame = Vec::with_capacity(FRAME + data.len());
        frame.extend((data.len() as u32).to_le_bytes());
        frame.extend(checksum(upload.held, data).to_le_bytes());
        frame.extend(data);
        let cap = 2 * upload.length + SLACK;
        let got = upload.end + frame.len() as u64;
        if got > cap {
            let hint = "send larger pieces";
            let what = "bytes of an upload and the heads of its pieces";
            return Err(StoreError::Full { what, cap, got, hint });
        }
        upload.write(storage, &path(&digest), &frame)?;
        upload.end = got;
        upload.held += data.len() as u64;
        upload.grown = Some(Instant::now());
        Ok((upload.held, frame.len() as u64))
    }

    /// Returns the total announced bytes of all uploads in progress.
    pub(crate) fn announced(&self) -> u64 {
        self.uploads.values().map(|upload| on_disk(upload.length)).sum()
    }

    /// Returns whether an upload of this digest is in progress.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.uploads.contains_key(digest)
    }

    /// Returns the bytes of a complete upload. Their digest has not been verified yet.
    pub(crate) fn bytes(&self, storage: &dyn Storage, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let upload = self.uploads.get(&digest).ok_or(StoreError::NoSuchUpload { digest })?;
        let (expected, got) = (upload.length, upload.held);
        if expected != got {
            return Err(StoreError::UploadLength { digest, expected, got });
        }
        let mut bytes = Vec::with_capacity(expected as usize);
        walk(storage, &path(&digest), |data| bytes.extend_from_slice(data))?;
        Ok(bytes)
    }

    /// Removes an upload.
    pub(crate) fn discard(&mut self, storage: &dyn Storage, digest: &Digest) -> Result<(), StoreError> {
        if self.uploads.contains_key(digest) {
            let path = path(digest);
            match storage.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => {}
            }
            self.uploads.remove(digest);
        }
        Ok(())
    }
}

/// Returns whether two uploads have the same publisher and task.
fn is_same_place(one: &SignedRelease, other: &SignedRelease) -> bool {
    one.key == other.key && one.release.task == other.release.task
}

impl Upload {
    fn write(&mut self, storage: &dyn Storage, path: &str, frame: &[u8]) -> Result<(), StoreError> {
        if self.file.is_none() {
            self.file = Some(storage.open(path).map_err(StoreError::io("open", path))?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.torn {
            file.truncate(self.end).map_err(StoreError::io("shorten", path))?;
        }
        // Set before the write, because a failed write may leave a torn frame.
        self.torn = true;
        file.write(self.end, frame).map_err(StoreError::io("write", path))?;
        file.sync().map_err(StoreError::io("sync", path))?;
        self.torn = false;
        Ok(())
    }
}
