//! Recently read files, so that a second event for the same file does not cause a second frame.
//!
//! Two events occur if a writer renames its file before closing it, or if a child process shares the descriptor: one
//! when the file gets its name, and one when the last descriptor is closed.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Maximum number of remembered files. The two events of a file are close together.
const CAPACITY: usize = 64;

/// Device, inode, size, and times of the last changes of content and metadata, in seconds and nanoseconds.
type Version = (u64, u64, u64, [i64; 4]);

/// The files read last.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(PathBuf, Version)>);

impl Sent {
    /// Returns whether the same file has been seen before and has not changed since.
    pub(super) fn again(&mut self, path: &Path) -> bool {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return false;
        };
        let times = [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        let version = (metadata.dev(), metadata.ino(), metadata.size(), times);
        if let Some((_, known)) = self.0.iter_mut().find(|(other, _)| other == path) {
            return std::mem::replace(known, version) == version;
        }
        self.0.truncate(CAPACITY - 1);
        self.0.push_front((path.to_owned(), version));
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_counts_again_once_it_was_written_or_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        let mut sent = Sent::default();
        assert!(!sent.again(&path), "there is none");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!sent.again(&path));
        assert!(sent.again(&path));
        file.write_all(b"two").unwrap();
        assert!(!sent.again(&path));
        drop(file);
        assert!(sent.again(&path));
        let elsewhere = folder.path().join("elsewhere.png");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::rename(&path, &elsewhere).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert!(!sent.again(&path));
        for other in 0..CAPACITY {
            let other = folder.path().join(format!("{other}.png"));
            fs::write(&other, b"other").unwrap();
            sent.again(&other);
        }
        assert_eq!(sent.0.len(), CAPACITY);
        assert!(!sent.again(&path), "forgotten");
    }
}
