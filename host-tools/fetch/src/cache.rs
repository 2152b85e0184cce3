//! Cache: downloaded packages, tasks as image folders, imported backbones.
//!
//! ```text
//! <root>/packages/<file>               as downloaded, SHA-256 verified
//! <root>/tasks/<name>/{train,val,test}/<label>/*.png, task.json
//! <root>/backbones/<name>.onnx, <name>.original.clr
//! <root>/tmp/<pid>-…                   work in progress, renamed into place when complete
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::FetchError;

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache at `given` (the option or `$CLR_CACHE`); default: the platform's cache folder.
    pub fn open(given: Option<PathBuf>) -> Result<Self, FetchError> {
        let root = match given {
            Some(path) => path,
            None => directories::BaseDirs::new()
                .ok_or(FetchError::NoCache)?
                .cache_dir()
                .join("clr"),
        };
        let cache = Self { root };
        cache.sweep();
        Ok(cache)
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of a package's file.
    pub fn package(&self, file: &str) -> PathBuf {
        self.root.join("packages").join(file)
    }

    /// Returns the path of a task's folder.
    pub fn task(&self, folder: &str) -> PathBuf {
        self.root.join("tasks").join(folder)
    }

    /// Returns the path of a backbone's file.
    pub fn backbone(&self, file: &str) -> PathBuf {
        self.root.join("backbones").join(file)
    }

    /// Creates a temporary folder on the cache's file system. Dropping it removes the folder.
    pub(crate) fn work(&self) -> Result<tempfile::TempDir, FetchError> {
        let parent = self.root.join("tmp");
        create_dir(&parent)?;
        tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&parent)
            .map_err(|source| FetchError::Io {
                action: "create a folder in",
                path: parent,
                source,
            })
    }

    /// Removes the temporary folders of interrupted processes.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.split('-').next())
                .and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_none_or(|pid| !is_alive(pid)) {
                tracing::debug!("removing {} of an interrupted run", entry.path().display());
                // Another process may be sweeping too.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Returns whether a process is running; `true` on systems where this cannot be determined.
pub fn is_alive(pid: u32) -> bool {
    let processes = Path::new("/proc");
    !processes.join("self").exists() || processes.join(pid.to_string()).exists()
}

pub(crate) fn create_dir(path: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(path).map_err(|source| FetchError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Moves a finished file or folder to its destination, unless another process has already done so.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), FetchError> {
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    match fs::rename(from, to) {
        Err(error) if to.is_dir() && is_occupied(&error) => Ok(()),
        Err(source) => Err(FetchError::Io {
            action: "write",
            path: to.to_owned(),
            source,
        }),
        Ok(()) => Ok(()),
    }
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_folders_of_ended_processes_are_removed_and_others_kept() {
        let root = tempfile::tempdir().unwrap();
        let tmp = root.path().join("tmp");
        let dead = tmp.join("4294967294-abc");
        let alive = tmp.join(format!("{}-abc", std::process::id()));
        fs::create_dir_all(&dead).unwrap();
        fs::create_dir_all(&alive).unwrap();
        Cache::open(Some(root.path().to_owned())).unwrap();
        assert!(alive.exists());
        assert!(!dead.exists() || !Path::new("/proc/self").exists());
    }

    #[test]
    fn a_folder_that_is_there_already_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        fs::create_dir_all(&old).unwrap();
        fs::create_dir_all(&new).unwrap();
        fs::write(old.join("a"), "first").unwrap();
        fs::write(new.join("a"), "second").unwrap();
        install(&new, &old).unwrap();
        assert_eq!(fs::read_to_string(old.join("a")).unwrap(), "first");
    }
}
