//! Files that were read a moment ago, so that a second event of the same file is no second frame.
//!
//! A writer that renames its file before it closes it, or whose descriptor a child process has too, causes two events: one when the
//! file gets its name, and one when the last descriptor is closed.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Files that are remembered; both events of one come close together.
const MOST: usize = 64;

/// Device, inode, size, and the times of the last change of content and of name, in seconds and nanoseconds.
type Version = (u64, u64, u64, [i64; 4]);

/// The files that were read last.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(PathBuf, Version)>);

impl Sent {
    /// Returns whether this very file was asked for before, and has neither changed nor moved since.
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
        self.0.truncate(MOST - 1);
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
        for other in 0..MOST {
            let other = folder.path().join(format!("{other}.png"));
            fs::write(&other, b"other").unwrap();
            sent.again(&other);
        }
        assert_eq!(sent.0.len(), MOST);
        assert!(!sent.again(&path), "forgotten");
    }
}
