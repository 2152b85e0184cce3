//! Connections over the Unix socket, TCP and serial lines, within budgets.

mod listeners;
mod serial;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use clr_transfer::{AccessRefusal, End, Link, ServeError, ServeLimits, SystemClock, serve_admitted};
use embedded_io::Write as _;

pub(crate) use self::{
    listeners::{bind_control, bind_first, bind_tcp, check_socket_path},
    serial::open_serial,
};
use super::{
    access::{Access, Gate, Via},
    budget::{Budget, Class, Ticket},
    lock,
    runtime::Runtime,
    seldom::Seldom,
    yielding::yield_to_frames,
};

/// Maximum time until a TCP peer has to open its session.
const OPENING: Duration = Duration::from_secs(5);

/// All connections of the device, with their budgets and access rules.
#[derive(Debug)]
pub(crate) struct Connections {
    runtime: Arc<Runtime>,
    access: Arc<Access>,
    budget: Arc<Budget>,
    /// Rate limit of the log line about threads that could not be started.
    no_thread: Mutex<Seldom>,
}

/// Serves one link until it ends and logs the outcome. Returns false if the link itself is closed.
fn serve_connection(gate: &Gate, peer: &str, link: &mut Link, limits: &ServeLimits) -> bool {
    match serve_admitted(link, gate, gate, &SystemClock::default(), limits) {
        Ok(served) => {
            tracing::debug!(peer, ?served, "connection ended");
            served.end != End::Closed
        }
        Err(error) => {
            if gate.is_known() {
                tracing::warn!(peer, "connection dropped: {error}");
            } else {
                // Logged below the default level, because otherwise any peer could fill the log.
                tracing::debug!(peer, "connection dropped: {error}");
            }
            !matches!(error, ServeError::Io(_))
        }
    }
}

impl Connections {
    pub(crate) fn new(runtime: &Arc<Runtime>, access: &Arc<Access>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            access: Arc::clone(access),
            budget: Arc::default(),
            no_thread: Mutex::default(),
        }
    }

    fn gate(&self, via: Via, ticket: Ticket) -> Gate {
        Gate::new(Arc::clone(&self.runtime), Arc::clone(&self.access), via, ticket)
    }

    /// Admits a new connection, or refuses it.
    fn accept(&self, via: Via, link: io::Result<Link>) {
        let config = self.runtime.config.load();
        let refused = &self.runtime.counters.connections_refused;
        let (peer, class, most) = match via {
            Via::Tcp(address) => (
                address.to_string(),
                Class::Peer(address.ip().to_canonical()),
                config.limits.handshakes,
            ),
            _ => ("control socket".to_owned(), Class::Control, config.limits.connections),
        };
        let mut link = match link {
            Ok(link) => link,
            Err(error) => return tracing::debug!(peer, "connection failed: {error}"),
        };
        if let Via::Tcp(address) = via
            && self.refuses_remote(address)
        {
            refused.add("stranger");
            tracing::debug!(peer, "connection refused: no host is enrolled");
            // The send buffer of a new connection is empty, so this write does not block.
            let _ = link.write(&AccessRefusal::PlainNotTaken.frame(0));
            return;
        }
        let Some(ticket) = self.budget.admit(class, most) else {
            refused.add(class.name());
            let _ = link.write(&AccessRefusal::Busy.frame(0));
            return tracing::debug!(peer, most, "connection refused: too many at once");
        };
        let limits = match via {
            Via::Tcp(_) => ServeLimits::default().with_opening(OPENING),
            _ => ServeLimits::default(),
        };
        let gate = self.gate(via, ticket);
        let started = thread::Builder::new().name("clr-connection".to_owned()).spawn(move || {
            if matches!(via, Via::Tcp(_)) {
                yield_to_frames();
            }
            serve_connection(&gate, &peer, &mut link, &limits);
        });
        if let Err(error) = started
            && let Some(failed) = lock(&self.no_thread).due()
        {
            tracing::warn!(failed, "cannot start a connection's thread: {error}");
        }
    }

    /// Returns whether a peer on another machine has to be refused because remote peers are not accepted.
    fn refuses_remote(&self, address: SocketAddr) -> bool {
        let plain = self.runtime.config.load().tcp.as_ref().is_some_and(|tcp| tcp.plain);
        !address.ip().to_canonical().is_loopback() && !plain && !self.access.accepts_remote_peers()
    }
}
