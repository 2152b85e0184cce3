//! Listening sockets: the Unix socket for this machine, TCP for hosts.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use clr_transfer::{Device as _, Link};
use rustix::fs::Gid;

use super::{Connections, Via};
use crate::daemon::{DaemonError, readable};

/// How often listeners look whether to stop, and how long they wait where no connection can be accepted.
const STEP: Duration = Duration::from_millis(50);
/// Names and numbers of the system's groups.
const GROUPS: &str = "/etc/group";

impl Connections {
    /// Listens on a Unix socket: for this user alone, or for a group too.
    pub(crate) fn unix(self: &Arc<Self>, path: &Path, group: Option<&str>) -> Result<(), DaemonError> {
        let failed = || DaemonError::io(format!("cannot listen on socket '{}'", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed())?;
        }
        // The store's lock is ours, so a socket that is there was left behind by a device that is gone.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed())?;
        let mut mode = 0o600;
        if let Some(group) = group {
            let given = group_number(group).and_then(|gid| Ok(rustix::fs::chown(path, None, Some(gid))?));
            given.map_err(DaemonError::io(format!(
                "cannot give socket '{}' to group `{group}`",
                path.display()
            )))?;
            mode = 0o660;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        self.listen("clr-control", listener, |listener| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok((Via::Socket, Link::unix(stream)))
        })
    }

    /// Listens on TCP; returns the address, with the port that was chosen for port 0.
    pub(crate) fn tcp(self: &Arc<Self>, address: SocketAddr) -> Result<SocketAddr, DaemonError> {
        let failed = || DaemonError::io(format!("cannot listen on {address}"));
        let listener = TcpListener::bind(address).map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let bound = listener.local_addr().map_err(failed())?;
        self.listen("clr-tcp", listener, |listener| {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok((Via::Tcp(peer), Link::tcp(stream)))
        })?;
        Ok(bound)
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
                while !connections.runtime.stopping() {
                    match readable(&listener, STEP).and_then(|some| some.then(|| accept(&listener)).transpose()) {
                        Ok(None) => {}
                        Ok(Some((via, link))) => connections.accept(via, link),
                        // Whoever knocked has gone again.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        // Out of descriptors, for one: the connection waits in the queue, and so does this.
                        Err(error) => {
                            tracing::warn!("cannot accept a connection: {error}");
                            thread::sleep(STEP);
                        }
                    }
                }
            })
            .map_err(DaemonError::io("cannot start a listener's thread"))?;
        Ok(())
    }
}

/// The number of a group, by name or number.
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
