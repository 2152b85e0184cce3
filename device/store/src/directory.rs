//! Storage in a directory of the file system.
//!
//! Each path is resolved from the root's descriptor, one component at a time, and links are never followed.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
    thread::sleep,
    time::Duration,
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, fstatvfs, mkdirat, openat, renameat,
        statat, syncfs, unlinkat,
    },
    io::Errno,
};

use crate::storage::{Entry, EntryKind, LockError, Storage, StorageFile, StorageLock};

/// Flags of every open: do not follow links, and close the descriptor in child processes.
const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// Only the owner may read files and directories, because they may contain images.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// [`Storage`] in a directory of the file system.
#[derive(Debug)]
pub struct Directory {
    root: OwnedFd,
}

impl Directory {
    /// Opens the directory. Creates it with its parents if it does not exist.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            std::fs::create_dir_all(path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Opens the directory at `path`; `""` is the root.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | SAFE;
        let mut directory = self.root.try_clone()?;
        for component in path.split('/').filter(|_| !path.is_empty()) {
            directory = openat(&directory, checked(component)?, flags, Mode::empty())?;
        }
        Ok(directory)
    }

    /// Splits a path into its directory and its file name.
    fn place<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directory(directory)?, checked(name)?))
    }

    fn file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        let (directory, name) = self.place(path)?;
        // Without `NONBLOCK`, opening a named pipe would block indefinitely.
        let file = openat(&directory, name, flags | OFlags::NONBLOCK | SAFE, FILE_MODE)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
            Ok(File::from(file))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
        }
    }
}

/// Refuses path components that could refer to something outside the directory.
fn checked(component: &str) -> io::Result<&str> {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"%._~-".contains(&byte);
    if component.is_empty() || component == "." || component == ".." || !component.bytes().all(sound) {
        let message = format!("`{component}` is not a name of this store");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(component)
}

impl StorageFile for File {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Storage for Directory {
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = self.file(path, OFlags::WRONLY | OFlags::CREATE)?;
        file.set_len(0)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(self.file(path, OFlags::WRONLY)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_directory, from) = self.place(from)?;
        let (to_directory, to) = self.place(to)?;
        Ok(renameat(&from_directory, from, &to_directory, to)?)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.directory(path)?)?)
    }

    fn sync_directories(&self, paths: &[String]) -> io::Result<()> {
        /// From this number of directories on, one sync of the file system is faster than one sync per directory.
        const MANY: usize = 16;
        if paths.len() >= MANY {
            return Ok(syncfs(&self.root)?);
        }
        paths.iter().try_for_each(|path| self.sync_directory(path))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        Ok(unlinkat(&directory, name, AtFlags::empty())?)
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        Ok(mkdirat(&directory, name, DIRECTORY_MODE)?)
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        Ok(unlinkat(&directory, name, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let directory = self.directory(path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let status = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed meanwhile.
                Err(Errno::NOENT) => continue,
                status => status?,
            };
            let kind = match FileType::from_raw_mode(status.st_mode) {
                _ if name.to_str().is_err() => EntryKind::Other,
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            entries.push(Entry {
                name: name.to_string_lossy().into_owned(),
                kind,
                bytes: if kind == EntryKind::File {
                    status.st_size as u64
                } else {
                    0
                },
            });
        }
        Ok(entries)
    }

    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(path, OFlags::RDONLY)?;
        let held = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(held)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        Ok(self.file(path, OFlags::RDONLY)?.metadata()?.len())
    }

    fn free(&self) -> io::Result<u64> {
        let status = fstatvfs(&self.root)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Locks the store's folder, and a lock file in it that contains the process id.
    fn lock(&self, path: &str) -> Result<StorageLock, LockError> {
        let file = match self.file(path, OFlags::RDWR | OFlags::CREATE) {
            // After a disk error, the system may have mounted the file system read-only. The adapters on it can still
            // be served.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => self.file(path, OFlags::RDONLY),
            file => file,
        };
        let claim = |descriptor: BorrowedFd<'_>| match flock(descriptor, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(LockError::Held {
                pid: file.as_ref().ok().and_then(holder),
            }),
            claimed => Ok(claimed),
        };
        // Opens the folder again, because the lock must not survive in a duplicate of the root's descriptor.
        let root = openat(
            &self.root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | SAFE,
            Mode::empty(),
        );
        let root = root.map_err(|error| LockError::Io(error.into()))?;
        let root_claimed = claim(root.as_fd())?;
        match &file {
            Ok(file) => match claim(file.as_fd())? {
                Ok(()) => {
                    let pid = format!("{}\n", std::process::id());
                    let mut writer = file;
                    if let Err(error) = file.set_len(0).and_then(|()| writer.write_all(pid.as_bytes())) {
                        tracing::warn!(%error, "cannot write this process's id to the lock file");
                    }
                }
                Err(error) if root_claimed.is_err() => return Err(LockError::Io(error.into())),
                Err(error) => tracing::warn!(%error, "cannot lock the lock file; the store's folder is locked"),
            },
            // The disk is full or read-only, or a folder is at the lock file's path.
            Err(error) => {
                root_claimed.map_err(|error| LockError::Io(error.into()))?;
                tracing::warn!(file = path, %error, "cannot open the lock file; only the store's folder is locked");
            }
        }
        Ok(Box::new((root, file.ok())))
    }
}

/// Reads the process id in a lock file. Waits briefly in case the holder has not written it yet.
fn holder(file: &File) -> Option<u32> {
    for _ in 0..20 {
        let mut bytes = [0; 16];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..read]);
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            return Some(pid);
        }
        sleep(Duration::from_millis(5));
    }
    None
}
