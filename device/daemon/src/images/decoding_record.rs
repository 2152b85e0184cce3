//! Record of the images being decoded, in a file that survives a crash of the process.
//!
//! The file has one slot per image. A slot is written before decoding and cleared afterwards, each time by a single
//! write without `fsync`: the page cache survives the process, and flash memory is spared. The file is in
//! `$RUNTIME_DIRECTORY`, which systemd keeps in memory, or otherwise in the state folder. An image that needs much of
//! the memory limit is also recorded durably in the state folder, at most every 30 seconds.

use std::{
    cell::Cell,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

const SLOTS: usize = 24;
const SLOT_BYTES: usize = 1024;
/// Minimum time between two durable records.
const DURABLE_PERIOD: Duration = Duration::from_secs(30);

/// An image that is being decoded, or was being decoded at the end of the last run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Suspect {
    /// Digest of the length and of the first and last bytes. It is cheap to compute for every frame, and equal for
    /// equal files.
    pub(super) id: String,
    pub(super) name: String,
    /// The image's file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
    /// Number of crashes of the process during its decoding.
    #[serde(default)]
    pub(super) deaths: u32,
}

impl Suspect {
    pub(super) fn of(bytes: &[u8], name: &str, path: Option<&Path>) -> Self {
        const PIECE: usize = 4096;
        let mut sample = (bytes.len() as u64).to_le_bytes().to_vec();
        sample.extend_from_slice(&bytes[..bytes.len().min(PIECE)]);
        sample.extend_from_slice(&bytes[bytes.len().saturating_sub(PIECE)..]);
        Self {
            id: Digest::of(&sample).to_string(),
            name: name.chars().take(120).collect(),
            path: path.map(Path::to_owned),
            deaths: 0,
        }
    }
}

/// The record file.
#[derive(Debug)]
pub(super) struct DecodingRecord {
    /// File with a slot for every image; `None` if it cannot be written.
    ordinary: Option<File>,
    /// Additional file for large images, if `ordinary` does not survive a power cut.
    durable_file: Option<File>,
    taken: Mutex<[bool; SLOTS]>,
    durable: Mutex<Option<Instant>>,
}

/// An image that is being decoded. Dropping the guard clears the image's slot.
#[derive(Debug)]
pub(super) struct DecodingGuard<'a> {
    record: &'a DecodingRecord,
    image: Suspect,
    slot: Option<usize>,
    /// Whether the image is also recorded in the durable file.
    durable_file: Cell<bool>,
}

impl DecodingRecord {
    /// Opens the record in `state`, and in `runtime` if there is such a folder. Returns the images that were being
    /// decoded when the last run ended.
    pub(super) fn open(state: &Path, runtime: Option<&Path>) -> (Self, Vec<Suspect>) {
        let durable_file = state.join("in-hand");
        // Two devices may share the runtime folder.
        let ordinary = runtime.map(|folder| {
            let of = Digest::of(durable_file.as_os_str().as_encoded_bytes());
            folder.join(format!("in-hand-{}", of.short()))
        });
        let mut found = read(&durable_file);
        found.extend(ordinary.iter().flat_map(|path| read(path)));
        // The file is written at full length now, so that slots can be written later even if the disk is full.
        let open = |path: &Path| {
            let open = || -> std::io::Result<File> {
                let file = File::options().create(true).truncate(false).write(true).open(path)?;
                file.write_all_at(&vec![0; SLOTS * SLOT_BYTES], 0)?;
                Ok(file)
            };
            let opened = open();
            if let Err(error) = &opened {
                tracing::warn!(path = %path.display(), "cannot record images being decoded: {error}");
            }
            opened.ok()
        };
        let durable_file = open(&durable_file);
        let (ordinary, durable_file) = match ordinary.and_then(|path| open(&path)) {
            Some(ordinary) => (Some(ordinary), durable_file),
            None => (durable_file, None),
        };
        let record = Self {
            ordinary,
            durable_file,
            taken: Mutex::default(),
            durable: Mutex::default(),
        };
        (record, found)
    }

    /// Records that decoding of an image begins.
    pub(super) fn take(&self, image: &Suspect) -> DecodingGuard<'_> {
        let slot = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let free = taken.iter().position(|taken| !taken);
            if let Some(slot) = free {
                taken[slot] = true;
            }
            free
        };
        if let Some(slot) = slot {
            write(self.ordinary.as_ref(), slot, &text(image));
        }
        DecodingGuard {
            record: self,
            image: image.clone(),
            slot,
            durable_file: Cell::new(false),
        }
    }
}

/// Returns the content of a slot, including its terminator.
fn text(image: &Suspect) -> Vec<u8> {
    let complete = serde_json::to_vec(image).unwrap_or_default();
    let mut text = if complete.len() < SLOT_BYTES {
        complete
    } else {
        let shorter = Suspect {
            path: None,
            ..image.clone()
        };
        serde_json::to_vec(&shorter).unwrap_or_default()
    };
    text.truncate(SLOT_BYTES - 1);
    text.push(0);
    text
}

fn write(file: Option<&File>, slot: usize, bytes: &[u8]) {
    if let Some(file) = file
        && let Err(error) = file.write_all_at(bytes, (slot * SLOT_BYTES) as u64)
    {
        tracing::debug!("cannot record an image being decoded: {error}");
    }
}

impl DecodingGuard<'_> {
    /// Syncs the record to the medium, so that it survives a power cut.
    pub(super) fn make_durable(&self) {
        let Some(slot) = self.slot else { return };
        let mut last = self.record.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < DURABLE_PERIOD) {
            return;
        }
        *last = Some(Instant::now());
        let durable_file = self.record.durable_file.as_ref();
        if durable_file.is_some() {
            write(durable_file, slot, &text(&self.image));
            self.durable_file.set(true);
        }
        if let Some(Err(error)) = durable_file.or(self.record.ordinary.as_ref()).map(File::sync_data) {
            tracing::debug!("cannot record an image being decoded durably: {error}");
        }
    }
}

impl Drop for DecodingGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            write(self.record.ordinary.as_ref(), slot, &[0]);
            if self.durable_file.get() {
                write(self.record.durable_file.as_ref(), slot, &[0]);
            }
            self.record.taken.lock().unwrap_or_else(PoisonError::into_inner)[slot] = false;
        }
    }
}

/// Returns the images in a record, without unreadable slots.
fn read(path: &Path) -> Vec<Suspect> {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= (SLOTS * SLOT_BYTES) as u64 => {
            std::fs::read(path).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    bytes
        .chunks(SLOT_BYTES)
        .filter_map(|slot| {
            let end = slot.iter().position(|&byte| byte == 0)?;
            serde_json::from_slice(&slot[..end]).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_being_decoded_are_found_by_the_next_run_and_finished_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let image = |name: &str| Suspect::of(name.as_bytes(), name, Some(Path::new("/frames/a.png")));
        let (record, found) = DecodingRecord::open(folder.path(), None);
        assert!(found.is_empty());
        let first = record.take(&image("first"));
        let second = record.take(&image("second"));
        second.make_durable();
        drop(first);
        let third = record.take(&image("third"));
        // The process ends here: nothing is dropped.
        std::mem::forget((second, third));
        let (_, found) = DecodingRecord::open(folder.path(), None);
        assert_eq!(found, [image("third"), image("second")]);
        assert!(DecodingRecord::open(folder.path(), None).1.is_empty());
    }

    #[test]
    fn a_large_image_is_found_although_the_runtime_folder_was_lost() {
        let (state, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let image = |name: &str| Suspect::of(name.as_bytes(), name, None);
        let (record, _) = DecodingRecord::open(state.path(), Some(runtime.path()));
        let (small, large) = (record.take(&image("small")), record.take(&image("large")));
        large.make_durable();
        std::mem::forget((small, large));
        let (record, found) = DecodingRecord::open(state.path(), Some(runtime.path()));
        assert_eq!(found, [image("large"), image("small"), image("large")]);
        let large = record.take(&image("large"));
        large.make_durable();
        std::mem::forget(large);
        let other = tempfile::tempdir().unwrap();
        assert_eq!(
            DecodingRecord::open(state.path(), Some(other.path())).1,
            [image("large")]
        );
    }

    #[test]
    fn a_damaged_or_unwritable_record_only_loses_the_record() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("in-hand"), [0xff; 3000]).unwrap();
        assert!(DecodingRecord::open(folder.path(), None).1.is_empty());
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir(other.path().join("in-hand")).unwrap();
        let (record, found) = DecodingRecord::open(other.path(), None);
        assert!(found.is_empty());
        drop(record.take(&Suspect::of(b"x", "x", None)));
    }

    #[test]
    fn images_beyond_the_slots_are_decoded_without_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let (record, _) = DecodingRecord::open(folder.path(), None);
        let image = Suspect::of(b"x", &"é".repeat(4000), Some(Path::new(&"p".repeat(3000))));
        let all: Vec<_> = (0..SLOTS + 2).map(|_| record.take(&image)).collect();
        assert_eq!(read(&folder.path().join("in-hand")).len(), SLOTS);
        drop(all);
        assert!(read(&folder.path().join("in-hand")).is_empty());
    }
}
