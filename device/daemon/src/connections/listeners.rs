//! Listening sockets: the Unix socket for this machine, TCP for hosts.

use std::{
    ffi::OsString,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::PermissionsExt as _,
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use clr_transfer::{Device as _, Link};
use rustix::fs::Gid;

use super::{Connections, Via};
use crate::{DaemonError, device_key, error::with_causes, seldom::Seldom, wait_readable};

/// Interval at which listeners check whether the device is stopping, and pause after a failed `accept`.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum length of a Unix socket's path: `sun_path` has 108 bytes, of which the last is zero.
const SOCKET_PATH: usize = 107;
/// Names and numbers of the system's groups.
const GROUPS: &str = "/etc/group";

/// Opens the control socket at the first usable path. If that is not the preferred path, logs the reason.
pub(crate) fn bind_first(places: &[PathBuf], group: Option<&str>) -> Option<(PathBuf, UnixListener)> {
    let mut places = places.iter().enumerate();
    places.find_map(|(index, path)| match bind_control(path, group, index == 0) {
        Ok(listener) => {
            if index > 0 {
                tracing::error!(socket = %path.display(), "the control socket is at a fallback path");
            }
            Some((path.clone(), listener))
        }
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            None
        }
    })
}

/// Opens a Unix socket for this user only, or also for a group. The caller holds the store's lock, so an existing
/// socket belongs to a device that has ended.
pub(crate) fn bind_control(path: &Path, group: Option<&str>, make_folder: bool) -> Result<UnixListener, DaemonError> {
    let failed = || DaemonError::io(format!("cannot listen on socket '{}'", path.display()));
    check_socket_path(path)?;
    if let Some(folder) = path.parent().filter(|_| make_folder) {
        std::fs::create_dir_all(folder).map_err(failed())?;
    }
    // The socket is renamed only after its permissions are set, because until then they depend on the umask.
    let unfinished = unfinished(path);
    _ = std::fs::remove_file(&unfinished);
    let listener = UnixListener::bind(&unfinished).map_err(failed())?;
    let named = permit(&unfinished, path, group).and_then(|()| {
        if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            device_key::set_aside(path, "aside");
        }
        std::fs::rename(&unfinished, path).map_err(failed())
    });
    if let Err(error) = named {
        _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    listener.set_nonblocking(true).map_err(failed())?;
    Ok(listener)
}

/// Sets the permissions of a socket that will be renamed to `path`.
fn permit(socket: &Path, path: &Path, group: Option<&str>) -> Result<(), DaemonError> {
    let mut mode = 0o600;
    if let Some(group) = group {
        let given = group_number(group).and_then(|gid| Ok(rustix::fs::chown(socket, None, Some(gid))?));
        given.map_err(DaemonError::io(format!(
            "cannot give socket '{}' to group `{group}`",
            path.display()
        )))?;
        mode = 0o660;
    }
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
        .map_err(DaemonError::io(format!("cannot listen on socket '{}'", path.display())))
}

/// Returns a temporary name for the socket, of the same length, because the path may already have the maximum length.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().as_bytes().to_vec();
    if let Some(last) = name.last_mut() {
        *last = if *last == b'~' { b'-' } else { b'~' };
    }
    PathBuf::from(OsString::from_vec(name))
}

/// Checks the length of a socket's path.
pub(crate) fn check_socket_path(path: &Path) -> Result<(), DaemonError> {
    let got = path.as_os_str().len();
    if got > SOCKET_PATH {
        let (path, cap) = (path.to_owned(), SOCKET_PATH);
        return Err(DaemonError::SocketPath { path, got, cap });
    }
    Ok(())
}

/// Opens a TCP port for hosts.
pub(crate) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    let listener =
        TcpListener::bind(address).map_err(DaemonError::listen(format!("for hosts on {address}"), address))?;
    listener
        .set_nonblocking(true)
        .map_err(DaemonError::io(format!("cannot listen for hosts on {address}")))?;
    Ok(listener)
}

impl Connections {
    /// Serves the control socket.
    pub(crate) fn unix(self: &Arc<Self>, listener: UnixListener) -> Result<(), DaemonError> {
        self.listen("clr-control", listener, |listener| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            let user = rustix::net::sockopt::socket_peercred(&stream).ok();
            let user = user.map(|peer| peer.uid.as_raw());
            Ok((Via::Socket { user }, Link::unix(stream)))
        })
    }

    /// Serves a TCP port.
    pub(crate) fn tcp(self: &Arc<Self>, listener: TcpListener) -> Result<(), DaemonError> {
        self.listen("clr-tcp", listener, |listener| {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok((Via::Tcp(peer), Link::tcp(stream)))
        })
    }

    fn listen<L: AsFd + Send + 'static>(
        self: &Arc<Self>,
        name: &str,
        listener: L,
        accept: impl Fn(&L) -> io::Result<(Via, io::Result<Link>)> + Send + 'static,
    ) -> Result<(), DaemonError> {
        let connections = Arc::clone(self);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut failures = Seldom::default();
                while !connections.runtime.stopping() {
                    match wait_readable(&listener, POLL_INTERVAL)
                        .and_then(|some| some.then(|| accept(&listener)).transpose())
                    {
                        Ok(None) => {}
                        Ok(Some((via, link))) => connections.accept(via, link),
                        // The peer disconnected before `accept`.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        // For example, the process has no free descriptors. The connection stays in the queue and is
                        // accepted later.
                        Err(error) => {
                            if let Some(failed) = failures.due() {
                                tracing::warn!(failed, "cannot accept a connection: {error}");
                            }
                            thread::sleep(POLL_INTERVAL);
                        }
                    }
                }
            })
            .map_err(DaemonError::io("cannot start a listener's thread"))?;
        Ok(())
    }
}

/// Returns the id of a group given by name or by number.
fn group_number(group: &str) -> io::Result<Gid> {
    let number = |text: &str| text.parse().ok().map(Gid::from_raw);
    if let Some(gid) = number(group) {
        return Ok(gid);
    }
    let text = std::fs::read_to_string(GROUPS)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group))
            .then(|| fields.nth(1).and_then(number))
            .flatten()
    });
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no such group in {GROUPS}\nhint: groupadd {group}"),
        )
    })
}
