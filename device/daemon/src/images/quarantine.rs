//! Quarantine of images that crash the process.
//!
//! An image that was being decoded when a run ended may be harmless, because power can fail at any time. It is
//! therefore tried again. If the process ends again before the image has been decoded, its file is moved to
//! `.rejected/` in the same folder, and its bytes are refused from then on.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    ImageFault,
    decoding_record::{DecodingGuard, DecodingRecord, Suspect},
};

/// Number of crashes on an image after which it is quarantined.
const MAX_CRASHES: u32 = 2;
/// Maximum length of each list. Beyond it, the oldest images are removed.
const MAX_LISTED: usize = 256;
/// Maximum bytes of the file. This program never writes a larger one.
const LIST_BYTES: u64 = 4 << 20;

/// Content of `images.json` in the state folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Lists {
    /// Images that were being decoded when a run ended, and have not been decoded since.
    #[serde(default)]
    suspects: Vec<Suspect>,
    /// Quarantined.
    #[serde(default)]
    rejected: Vec<Suspect>,
}

#[derive(Debug)]
pub(super) struct Quarantine {
    record: DecodingRecord,
    path: PathBuf,
    lists: Mutex<Lists>,
    /// Whether a list has entries. Checked for every frame.
    any: AtomicBool,
    crashed_on_image: bool,
    quarantined: u64,
}

impl Quarantine {
    /// Reads the lists and the record of the last run, and decides which images to quarantine.
    pub(super) fn open(state: &Path, runtime: Option<&Path>) -> Self {
        if let Err(error) = fs::create_dir_all(state) {
            tracing::warn!(path = %state.display(), "cannot create folder: {error}");
        }
        let path = state.join("images.json");
        let mut lists = read(&path);
        let (record, found) = DecodingRecord::open(state, runtime);
        let crashed_on_image = !found.is_empty();
        let mut quarantined = 0;
        let mut deaths: HashMap<String, u32> = HashMap::new();
        for image in found {
            // The same image was recorded twice at the same time, which is one crash.
            if deaths.contains_key(&image.id) {
                continue;
            }
            let before = lists.suspects.iter().position(|other| other.id == image.id);
            let before = before.map_or(0, |index| lists.suspects.remove(index).deaths);
            let image = Suspect {
                deaths: before + 1,
                ..image
            };
            deaths.insert(image.id.clone(), image.deaths);
            let name = printable(&image.name);
            if image.deaths < MAX_CRASHES {
                tracing::warn!(
                    image = name,
                    "the last run ended while it was decoded; trying once more"
                );
                lists.suspects.push(image);
                continue;
            }
            quarantined += 1;
            match image.path.as_deref().map(|path| move_aside(path, &image.id)) {
                Some(Ok(to)) => {
                    let to = printable(&to.display().to_string());
                    tracing::error!(
                        image = name,
                        to,
                        deaths = image.deaths,
                        "image quarantined: the device crashes on it"
                    );
                }
                Some(Err(error)) => {
                    tracing::error!(
                        image = name,
                        deaths = image.deaths,
                        "image refused from now on, the device crashes on it; cannot move it: {error}"
                    );
                }
                None => tracing::error!(
                    image = name,
                    deaths = image.deaths,
                    "image refused from now on: the device crashes on it"
                ),
            }
            lists.rejected.retain(|other| other.id != image.id);
            lists.rejected.push(image);
        }
        for list in [&mut lists.suspects, &mut lists.rejected] {
            let beyond = list.len().saturating_sub(MAX_LISTED);
            list.drain(..beyond);
        }
        let quarantine = Self {
            any: AtomicBool::new(!lists.suspects.is_empty() || !lists.rejected.is_empty()),
            record,
            path,
            lists: Mutex::new(lists),
            crashed_on_image,
            quarantined,
        };
        if crashed_on_image {
            quarantine.write();
        }
        quarantine
    }

    pub(super) fn crashed_on_image(&self) -> bool {
        self.crashed_on_image
    }

    pub(super) fn quarantined_at_start(&self) -> u64 {
        self.quarantined
    }

    /// Records that decoding of an image begins, unless the image is quarantined.
    pub(super) fn take(&self, image: &Suspect) -> Result<DecodingGuard<'_>, ImageFault> {
        if self.any.load(Ordering::Relaxed) {
            let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = lists.rejected.iter().find(|other| other.id == image.id) {
                return Err(ImageFault::Quarantined {
                    name: image.name.clone(),
                    deaths: found.deaths,
                });
            }
        }
        Ok(self.record.take(image))
    }

    /// Removes a decoded image from the suspects.
    pub(super) fn survived(&self, image: &Suspect) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let changed = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            let before = lists.suspects.len();
            lists.suspects.retain(|other| other.id != image.id);
            self.any.store(
                !lists.suspects.is_empty() || !lists.rejected.is_empty(),
                Ordering::Relaxed,
            );
            lists.suspects.len() != before
        };
        if changed {
            self.write();
        }
    }

    /// Writes the lists atomically and durably. This is rare: only after a crash on an image. If the write fails, the
    /// change is lost at the end of the run.
    fn write(&self) {
        let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || -> io::Result<()> {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer_pretty(&mut file, &*lists)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            fs::File::open(folder)?.sync_all()
        };
        if let Err(error) = write() {
            tracing::warn!(path = %self.path.display(), "cannot write the list of quarantined images: {error}");
        }
    }
}

/// Reads the lists; empty if the file is missing or damaged.
fn read(path: &Path) -> Lists {
    let read = || -> io::Result<Lists> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() || metadata.len() > LIST_BYTES {
            return Err(io::Error::other(format!("not a file of at most {LIST_BYTES} bytes")));
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    };
    match read() {
        Ok(lists) => lists,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), "cannot read the list of quarantined images, starting a new one: {error}");
            }
            Lists::default()
        }
    }
}

/// Moves a file to `.rejected/` in the same folder and returns its new path. Does nothing if its name now belongs to
/// another file.
fn move_aside(path: &Path, id: &str) -> io::Result<PathBuf> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("no longer a file"));
    }
    if Suspect::of(&fs::read(path)?, "", None).id != id {
        return Err(io::Error::other("replaced by another file"));
    }
    let folder = path.parent().unwrap_or(Path::new(".")).join(".rejected");
    fs::create_dir_all(&folder)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = folder.join(name);
    let mut number = 1;
    while to.symlink_metadata().is_ok() {
        let mut numbered = name.to_owned();
        numbered.push(format!(".{number}"));
        to = folder.join(numbered);
        number += 1;
    }
    fs::rename(path, &to)?;
    Ok(to)
}

/// Returns a name with control characters escaped.
fn printable(name: &str) -> String {
    name.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("frames")).unwrap();
            fs::write(folder.path().join("frames/a.png"), b"poison").unwrap();
            Self { folder }
        }

        fn open(&self) -> Quarantine {
            Quarantine::open(&self.folder.path().join("state"), None)
        }

        fn image(&self) -> Suspect {
            Suspect::of(b"poison", "a.png", Some(&self.folder.path().join("frames/a.png")))
        }

        /// Simulates a run that ends while the image is being decoded.
        fn die(&self) -> bool {
            let quarantine = self.open();
            let taken = quarantine.take(&self.image()).map(std::mem::forget).is_ok();
            drop(quarantine);
            taken
        }
    }

    #[test]
    fn an_image_is_quarantined_after_the_second_crash_and_then_refused() {
        let place = Place::new();
        assert!(place.die() && place.die());
        let quarantine = place.open();
        assert!(quarantine.crashed_on_image());
        assert_eq!(quarantine.quarantined_at_start(), 1);
        assert!(place.folder.path().join("frames/.rejected/a.png").exists());
        assert!(!place.folder.path().join("frames/a.png").exists());
        assert!(matches!(
            quarantine.take(&place.image()),
            Err(ImageFault::Quarantined { deaths: 2, .. })
        ));
        // A clean end keeps the quarantine and adds no suspect.
        drop(quarantine);
        let quarantine = place.open();
        assert!(!quarantine.crashed_on_image());
        assert_eq!(quarantine.quarantined_at_start(), 0);
        assert!(quarantine.take(&place.image()).is_err());
    }

    #[test]
    fn an_image_decoded_after_a_power_cut_is_not_suspected() {
        let place = Place::new();
        for _ in 0..5 {
            assert!(place.die());
            let quarantine = place.open();
            assert!(quarantine.crashed_on_image());
            drop(quarantine.take(&place.image()).unwrap());
            quarantine.survived(&place.image());
        }
        assert!(place.folder.path().join("frames/a.png").exists());
    }

    #[test]
    fn an_image_that_cannot_be_moved_is_still_refused() {
        let place = Place::new();
        assert!(place.die() && place.die());
        fs::write(place.folder.path().join("frames/a.png"), b"another").unwrap();
        let quarantine = place.open();
        assert!(quarantine.take(&place.image()).is_err());
        assert!(place.folder.path().join("frames/a.png").exists());
        assert!(quarantine.take(&Suspect::of(b"another", "a.png", None)).is_ok());
    }

    #[test]
    fn damaged_lists_start_empty() {
        let place = Place::new();
        for damage in [&b""[..], b"{", b"{\"rejected\": 3}", &[0xff; 100]] {
            fs::create_dir_all(place.folder.path().join("state")).unwrap();
            fs::write(place.folder.path().join("state/images.json"), damage).unwrap();
            assert!(place.open().take(&place.image()).is_ok());
        }
    }

    #[test]
    fn names_are_logged_on_one_line() {
        assert_eq!(printable("a\nERROR b\u{1b}[31m"), "a\\nERROR b\\u{1b}[31m");
    }
}
