//! Watch on a folder, and detection of its loss.

use std::{
    ffi::{OsStr, OsString},
    fs,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{Access, AtFlags, CWD, accessat, inotify},
    io::Errno,
};

/// Device and inode of a folder.
type Identity = (u64, u64);

/// A watch on a folder. It keeps no descriptor of the folder open, so that the medium can be unmounted.
#[derive(Debug)]
pub(super) struct Watched {
    events: OwnedFd,
    identity: Identity,
    mount_point: bool,
}

/// Names that have appeared in the folder.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) names: Vec<OsString>,
    /// Whether the kernel dropped events.
    pub(super) overflow: bool,
}

fn identity(path: &Path) -> Result<Identity, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot find the folder: {error}"))?;
    if !metadata.is_dir() {
        return Err("it is not a folder".to_owned());
    }
    Ok((metadata.dev(), metadata.ino()))
}

impl Watched {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: Errno| format!("cannot watch the folder: {error}");
        let before = identity(path)?;
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(failed)?;
        let flags = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&events, path, flags).map_err(failed)?;
        let parent = fs::metadata(path.join("..")).map_err(|error| format!("cannot find the folder: {error}"))?;
        let watched = Self {
            events,
            identity: before,
            mount_point: parent.dev() != before.0,
        };
        // If the folder was replaced in the meantime, the watch may be on the old one.
        watched.check(path)?;
        Ok(watched)
    }

    /// Returns whether the folder is a mount point.
    pub(super) fn mount_point(&self) -> bool {
        self.mount_point
    }

    /// Checks that the folder at the path is still the watched one, and readable.
    ///
    /// # Errors
    /// The reason as text, if the folder was replaced or lost, or is unreadable.
    pub(super) fn check(&self, path: &Path) -> Result<(), String> {
        if identity(path)? != self.identity {
            return Err("the folder was replaced or mounted over".to_owned());
        }
        accessat(CWD, path, Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|error| format!("cannot read the folder: {error}"))
    }

    /// Returns the names that appeared since the last call.
    ///
    /// # Errors
    /// The reason why the watch has ended, as text.
    pub(super) fn arrivals(&self) -> Result<Arrivals, String> {
        use inotify::ReadFlags as Flags;
        let mut arrivals = Arrivals::default();
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(arrivals),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(format!("cannot watch the folder: {error}")),
            };
            let flags = event.events();
            for (flag, reason) in [
                (Flags::DELETE_SELF, "the folder was removed"),
                (Flags::MOVE_SELF, "the folder was renamed"),
                (Flags::UNMOUNT, "the folder was unmounted"),
                (Flags::IGNORED, "the folder is no longer watched"),
            ] {
                if flags.contains(flag) {
                    return Err(reason.to_owned());
                }
            }
            arrivals.overflow |= flags.contains(Flags::QUEUE_OVERFLOW);
            if let Some(name) = event.file_name() {
                arrivals.names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
