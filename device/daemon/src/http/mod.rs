//! HTTP/1.1 server for monitoring: bounded heads, bodies, connections and times; routes in a table.
//!
//! | limit | value |
//! |---|---|
//! | head | 8 KiB (431), 32 fields (431), 2 s |
//! | body | `http.body_bytes` (413, unread), 3 s (408) |
//! | connection | one request, 10 s |
//! | connections at once | `http.connections`, of which a few are reserved for loopback; the others are answered 503 |
//!
//! The server runs on one thread of low priority with an asynchronous runtime of its own, so an idle connection costs a socket and a few
//! kilobytes. A panicking handler is answered with 500 and harms no other connection.

mod accept;
mod connection;
mod handlers;
mod memory;
mod raw_head;
mod reply;
mod router;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicUsize},
    thread,
};

use clr_transfer::Health;

use super::{DaemonError, HttpConfig, source::Stop, yielding::yield_to_frames};

pub use memory::http_answer;

/// What the HTTP port serves.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// The metrics, in Prometheus' text format 0.0.4.
    fn metrics(&self) -> String;
    /// The checks of the device's health.
    fn health(&self) -> Health;
    /// A connection was refused: too many at once, or no descriptor left.
    fn connection_refused(&self);
}

/// Caps of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Bytes of a request's body.
    pub(crate) body_bytes: u64,
}

impl Limits {
    /// Connections that only peers on this machine may take: none where there is but one.
    const fn reserved_for_loopback(self) -> usize {
        const RESERVED: usize = 4;
        if self.connections / 2 < RESERVED {
            self.connections / 2
        } else {
            RESERVED
        }
    }
}

impl From<&HttpConfig> for Limits {
    fn from(config: &HttpConfig) -> Self {
        Self {
            connections: config.connections,
            body_bytes: config.body_bytes,
        }
    }
}

/// The server's state, shared by its connections.
struct Server {
    device: Arc<dyn Monitored>,
    limits: Limits,
    /// Open connections.
    open: AtomicUsize,
    /// Those of peers on other machines.
    open_remote: AtomicUsize,
}

/// Opens the port.
pub(crate) fn bind(listen: SocketAddr) -> Result<TcpListener, DaemonError> {
    let listener = TcpListener::bind(listen).map_err(DaemonError::listen(format!("for HTTP on {listen}"), listen))?;
    listener
        .set_nonblocking(true)
        .map_err(DaemonError::io(format!("cannot listen for HTTP on {listen}")))?;
    Ok(listener)
}

/// Serves the port on a dedicated thread until `stop`.
pub(crate) fn serve(
    listener: TcpListener,
    limits: Limits,
    device: Arc<dyn Monitored>,
    stop: Stop,
) -> Result<(), DaemonError> {
    let failed = || DaemonError::io("cannot start the HTTP server");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed())?;
    let server = Arc::new(Server {
        device,
        limits,
        open: AtomicUsize::new(0),
        open_remote: AtomicUsize::new(0),
    });
    thread::Builder::new()
        .name("clr-http".to_owned())
        .spawn(move || {
            yield_to_frames();
            runtime.block_on(accept::run(listener, server, stop));
        })
        .map(drop)
        .map_err(failed())
}
