//! HTTP/1.1 server for monitoring, with limits on heads, bodies, connections and times.
//!
//! | limit | value |
//! |---|---|
//! | head | 8 KiB (431), 32 fields (431), 2 s |
//! | body | `http.body_bytes` (413, unread), 3 s (408) |
//! | connection | one request, 10 s |
//! | simultaneous connections | `http.connections`, a few reserved for loopback; beyond that, 503 |
//!
//! The server runs on one low-priority thread with a dedicated asynchronous runtime, so an idle connection only costs a
//! socket and a few kilobytes. If a handler panics, the response is 500 and no other connection is affected.

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

/// Source of the pages of the HTTP port.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// Returns the metrics, in Prometheus' text format 0.0.4.
    fn metrics(&self) -> String;
    /// Returns the checks of the device's health.
    fn health(&self) -> Health;
    /// Counts a connection refused because of the cap, or because no descriptor was left.
    fn connection_refused(&self);
}

/// Caps of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum number of simultaneous connections.
    pub(crate) connections: usize,
    /// Maximum size of a request's body, in bytes.
    pub(crate) body_bytes: u64,
}

impl Limits {
    /// Returns how many connections are reserved for this machine; 0 if only one is allowed in total.
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
    /// Number of open connections.
    open: AtomicUsize,
    /// Number of open connections from other machines.
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
