//! Frames from a folder: the pictures that lie in it, then those that appear, as soon as they are whole.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::inotify, io::Errno};

use super::{Frame, PATIENCE, Send, Stop};
use crate::daemon::{DaemonError, readable};

/// Pictures larger than this are left alone.
const LARGEST: u64 = 32 << 20;
/// A folder that is watched. A file counts when its writer closes it or when it is renamed into the folder.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    delete: bool,
    events: OwnedFd,
}

fn is_picture(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let known = ["jpg", "jpeg", "png", "bmp", "webp", "gif"];
    // Names with a dot in front are how careful writers mark files that are not whole yet.
    !name.as_bytes().starts_with(b".") && known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

impl Directory {
    pub(super) fn open(path: &Path, delete: bool) -> Result<Self, DaemonError> {
        let failed = || DaemonError::io(format!("cannot watch folder '{}'", path.display()));
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|error| failed()(error.into()))?;
        let flags = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&events, path, flags).map_err(|error| failed()(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            delete,
            events,
        })
    }

    pub(super) fn run(self, stop: &Stop, send: &mut Send<'_>) -> Result<(), DaemonError> {
        // The watch stands before the folder is read, so nothing falls between. What happened until then is in the list.
        let mut waiting = self.present()?;
        for name in self.arrivals()? {
            if !waiting.contains(&name) {
                waiting.push_back(name);
            }
        }
        while !stop.is_set() {
            while let Some(name) = waiting.pop_front() {
                if stop.is_set() || !self.send(&name, send) {
                    return Ok(());
                }
            }
            if readable(&self.events, PATIENCE).map_err(self.failed())? {
                waiting.extend(self.arrivals()?);
            }
        }
        Ok(())
    }

    /// The pictures that were finished since the last call.
    fn arrivals(&self) -> Result<Vec<OsString>, DaemonError> {
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    tracing::warn!("more pictures at once than the system keeps track of; reading the folder again");
                    names.extend(self.present()?);
                }
                Ok(event) => {
                    if let Some(name) = event.file_name() {
                        let name = OsStr::from_bytes(name.to_bytes());
                        if is_picture(name) {
                            names.push(name.to_owned());
                        }
                    }
                }
                Err(Errno::AGAIN) => return Ok(names),
                Err(error) => return Err(self.failed()(error.into())),
            }
        }
    }

    fn failed(&self) -> impl FnOnce(std::io::Error) -> DaemonError + use<> {
        DaemonError::io(format!("cannot watch folder '{}'", self.path.display()))
    }

    /// The pictures in the folder, oldest first.
    fn present(&self) -> Result<VecDeque<OsString>, DaemonError> {
        let failed = || DaemonError::io(format!("cannot read folder '{}'", self.path.display()));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if is_picture(&entry.file_name()) {
                let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                found.push((written, entry.file_name()));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Sends a file; false when nobody wants frames any more.
    fn send(&self, name: &OsStr, send: &mut Send<'_>) -> bool {
        let path = self.path.join(name);
        let read = || {
            let metadata = fs::metadata(&path)?;
            if !metadata.is_file() || metadata.len() > LARGEST {
                let reason = format!("not a file of at most {LARGEST} bytes");
                return Err(std::io::Error::other(reason));
            }
            fs::read(&path)
        };
        match read() {
            Ok(bytes) => send(Frame {
                delete: self.delete.then(|| path.clone()),
                path: Some(path),
                ..Frame::new(name.to_string_lossy().into_owned(), bytes)
            }),
            // It was taken away, which is its writer's business.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::warn!(path = %path.display(), "cannot read picture: {error}");
                true
            }
        }
    }
}
