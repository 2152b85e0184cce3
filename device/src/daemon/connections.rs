//! Who may speak to the device: the Unix socket, TCP, a serial line, standard input and output.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use clr_transfer::{Device as _, End, Link, ServeError, ServeLimits, SystemClock, serve};

use super::{
    DaemonError, SerialConfig, device_key, readable,
    runtime::{Runtime, with_causes},
};

/// How often listeners look whether to stop.
const STEP: Duration = Duration::from_millis(50);

/// The peer's name on the control socket.
const CONTROL: &str = "control socket";
/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last one zero.
const SOCKET_PATH: usize = 107;

/// Opens the Unix socket in the first of these places that takes it, and logs where and why if it is not the first one.
pub(crate) fn bind_first(places: &[PathBuf]) -> Option<(PathBuf, UnixListener)> {
    let mut places = places.iter().enumerate();
    places.find_map(|(index, path)| match bind_unix(path, index == 0) {
        Ok(listener) => {
            if index > 0 {
                tracing::error!(socket = %path.display(), "the control socket is in another place than usual");
            }
            Some((path.clone(), listener))
        }
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            None
        }
    })
}

/// Opens a Unix socket that only this user may use. The store's lock must be held: a socket that is there is then a dead device's.
pub(crate) fn bind_unix(path: &Path, make_folder: bool) -> Result<UnixListener, DaemonError> {
    let failed = || DaemonError::io(format!("cannot listen on socket '{}'", path.display()));
    check_socket_path(path)?;
    if let Some(folder) = path.parent().filter(|_| make_folder) {
        std::fs::create_dir_all(folder).map_err(failed())?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => device_key::set_aside(path, "aside"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed())?;
    listener.set_nonblocking(true).map_err(failed())?;
    Ok(listener)
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

/// Opens a serial line.
pub(crate) fn open_serial(config: &SerialConfig) -> Result<Link, DaemonError> {
    let path = config.port.display().to_string();
    Link::serial(&path, config.baud).map_err(DaemonError::io(format!("cannot open serial line '{path}'")))
}

/// Counts the connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Connections(Arc<AtomicUsize>);

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves one link to its end and says in the log how it ended. False if the link itself is gone.
fn talk(runtime: &Runtime, peer: &str, link: &mut Link, limits: &ServeLimits) -> bool {
    match serve(link, runtime, &SystemClock::default(), limits) {
        Ok(served) => {
            tracing::debug!(peer, ?served, "connection ended");
            served.end != End::Closed
        }
        Err(error) => {
            tracing::warn!(peer, "connection dropped: {error}");
            !matches!(error, ServeError::Io(_))
        }
    }
}

impl Connections {
    fn accept(&self, runtime: &Arc<Runtime>, peer: String, link: io::Result<Link>) {
        let most = runtime.config.load().limits.connections;
        let mut link = match link {
            Ok(link) => link,
            Err(error) => return tracing::warn!(peer, "connection failed: {error}"),
        };
        if self.0.fetch_add(1, Ordering::SeqCst) >= most {
            self.0.fetch_sub(1, Ordering::SeqCst);
            let kind = if peer == CONTROL { "unix" } else { "tcp" };
            runtime.counters.connections_refused.add(kind);
            return tracing::warn!(peer, most, "connection refused: too many at once");
        }
        let open = Open(Arc::clone(&self.0));
        let runtime = Arc::clone(runtime);
        let started = thread::Builder::new().name("clr-connection".to_owned()).spawn(move || {
            let _open = open;
            talk(&runtime, &peer, &mut link, &ServeLimits::default());
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a connection's thread: {error}");
        }
    }

    /// Serves the control socket.
    pub(crate) fn unix(self: &Arc<Self>, runtime: &Arc<Runtime>, listener: UnixListener) -> Result<(), DaemonError> {
        self.listen(runtime, "clr-control", listener, |listener| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok((CONTROL.to_owned(), Link::unix(stream)))
        })
    }

    /// Serves a TCP port.
    pub(crate) fn tcp(self: &Arc<Self>, runtime: &Arc<Runtime>, listener: TcpListener) -> Result<(), DaemonError> {
        self.listen(runtime, "clr-tcp", listener, |listener| {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Ok((peer.to_string(), Link::tcp(stream)))
        })
    }

    fn listen<L: AsFd + Send + 'static>(
        self: &Arc<Self>,
        runtime: &Arc<Runtime>,
        name: &str,
        listener: L,
        accept: impl Fn(&L) -> io::Result<(String, io::Result<Link>)> + Send + 'static,
    ) -> Result<(), DaemonError> {
        let (connections, runtime) = (Arc::clone(self), Arc::clone(runtime));
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while !runtime.stopping() {
                    match readable(&listener, STEP).and_then(|some| some.then(|| accept(&listener)).transpose()) {
                        Ok(None) => {}
                        Ok(Some((peer, link))) => connections.accept(&runtime, peer, link),
                        // Whoever knocked has gone again.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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

    /// Serves a serial line for as long as the device runs; one that fails is opened again.
    pub(crate) fn serial(runtime: &Arc<Runtime>, config: &SerialConfig, line: Link) -> Result<(), DaemonError> {
        const AGAIN: Duration = Duration::from_secs(2);
        let path = config.port.display().to_string();
        let baud = config.baud;
        let open = move || Link::serial(&path, baud);
        let mut link = Some(line);
        let runtime = Arc::clone(runtime);
        thread::Builder::new()
            .name("clr-serial".to_owned())
            .spawn(move || {
                let limits = ServeLimits::for_baud(baud);
                while !runtime.stopping() {
                    match link.take().map_or_else(&open, Ok) {
                        // A line has no end of its own: what ends is one conversation on it.
                        Ok(mut line) => {
                            while !runtime.stopping() && talk(&runtime, "serial line", &mut line, &limits) {}
                            thread::sleep(STEP);
                        }
                        Err(error) => {
                            tracing::warn!("serial line: {error}");
                            thread::sleep(AGAIN);
                        }
                    }
                }
            })
            .map_err(DaemonError::io("cannot start the serial line's thread"))?;
        Ok(())
    }
}
