//! Directory source: the images in a folder, then every image that appears in it, as soon as its file is complete.
//!
//! The folder may be removed, replaced, renamed, unmounted, hidden by a mount or made unreadable while the device runs.
//! inotify and a comparison of device and inode numbers detect this. As soon as the folder exists at the configured
//! path again, it is watched again.

mod file;
mod sent;
mod watched;

use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{Frame, POLL_INTERVAL, Send, Session, SourceState, Stop, keep_open};
use crate::wait_readable;
use file::Unfit;
use sent::Sent;
use watched::Watched;

/// Configuration of a directory source.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    delete: bool,
    /// Cap of an image, in bytes.
    largest: u64,
    /// Whether the folder was a mount point when it was first opened. If it was and the mount is missing, the folder is
    /// the wrong one.
    mounted: Option<bool>,
}

fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let known = ["jpg", "jpeg", "png", "bmp", "webp", "gif"];
    // A leading dot marks a file that is still being written.
    !name.as_bytes().starts_with(b".") && known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

impl Directory {
    pub(super) fn new(path: PathBuf, delete: bool, largest: u64) -> Self {
        Self {
            path,
            delete,
            largest,
            mounted: None,
        }
    }

    pub(super) fn run(mut self, stop: &Stop, state: &SourceState, send: &mut Send<'_>) {
        let (path, delete, largest) = (self.path.clone(), self.delete, self.largest);
        keep_open(
            stop,
            state,
            send,
            || self.open(),
            |watched, send| {
                state.up();
                let session = Watching {
                    path: &path,
                    delete,
                    largest,
                    watched,
                    sent: RefCell::default(),
                };
                session.run(stop, state, send)
            },
        );
    }

    fn open(&mut self) -> Result<Watched, String> {
        let watched = Watched::open(&self.path)?;
        if *self.mounted.get_or_insert(watched.mount_point()) && !watched.mount_point() {
            return Err("it is no longer a mount point".to_owned());
        }
        Ok(watched)
    }
}

/// A session with one folder.
struct Watching<'a> {
    path: &'a Path,
    delete: bool,
    largest: u64,
    watched: Watched,
    sent: RefCell<Sent>,
}

impl Watching<'_> {
    fn run(self, stop: &Stop, state: &SourceState, send: &mut Send<'_>) -> Session {
        self.deliver(stop, state, send).unwrap_or_else(Session::Lost)
    }

    fn deliver(&self, stop: &Stop, state: &SourceState, send: &mut Send<'_>) -> Result<Session, String> {
        // The watch starts before the folder is listed, so that no file is missed. Early events may refer to files that
        // are also in the list.
        let mut waiting = self.present()?;
        for name in self.arrivals()? {
            if !waiting.contains(&name) {
                waiting.push_back(name);
            }
        }
        while !stop.is_set() {
            state.alive();
            self.watched.check(self.path)?;
            if let Some(name) = waiting.pop_front() {
                if !self.send(&name, send) {
                    break;
                }
            } else if wait_readable(&self.watched, POLL_INTERVAL).map_err(|error| error.to_string())? {
                waiting.extend(self.arrivals()?);
            }
        }
        Ok(Session::Ended)
    }

    /// Returns the images completed since the last call.
    fn arrivals(&self) -> Result<Vec<OsString>, String> {
        let arrivals = self.watched.arrivals()?;
        let mut names = arrivals.names;
        if arrivals.overflow {
            tracing::warn!("inotify queue overflowed; listing the folder again");
            names.extend(self.present()?);
        }
        names.retain(|name| is_image(name));
        Ok(names)
    }

    /// Returns the images in the folder, oldest first.
    fn present(&self) -> Result<VecDeque<OsString>, String> {
        let failed = |error: std::io::Error| format!("cannot list the folder: {error}");
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_image(&entry.file_name()) {
                let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                found.push((written, entry.file_name()));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Sends a file. Returns false if the receiver is closed.
    fn send(&self, name: &OsStr, send: &mut Send<'_>) -> bool {
        let path = self.path.join(name);
        if self.sent.borrow_mut().again(&path) {
            return true;
        }
        match file::read(&path, self.largest) {
            Ok(bytes) => send(Frame {
                delete: self.delete.then(|| path.clone()),
                path: Some(path),
                ..Frame::new(name.to_string_lossy().into_owned(), bytes)
            }),
            // Removed again by its writer.
            Err(Unfit::Vanished) => true,
            Err(Unfit::Skipped(reason)) => {
                tracing::warn!(path = %path.display(), "image skipped: {reason}");
                true
            }
        }
    }
}
