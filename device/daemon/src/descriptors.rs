//! File descriptors: a limit that is raised at the start, and a reserve that connections cannot take.
//!
//! Connections are capped, so that all of them together leave [`RESERVE`] descriptors to the store, the source and the control socket.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Config, LimitsConfig, http};

/// Descriptors for all but connections: standard streams, listeners, store, source, camera, runtimes' own, and files being written.
const RESERVE: u64 = 64;
/// Descriptors of one connection of the update protocol: its socket, and a file that it reads or writes.
const PER_CONNECTION: u64 = 2;
/// More are never needed; a limit of millions makes programs that walk through all of them slow.
const ENOUGH: u64 = 4096;

/// The limit in force and the caps that fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Descriptors that the process may have; `None` without a limit.
    pub(crate) limit: Option<u64>,
    /// Caps of the HTTP server; `None` where it is not configured.
    pub(crate) http: Option<http::Limits>,
}

/// Raises the limit as far as it may be raised and fits the HTTP server's connections under it.
pub(crate) fn prepare(config: &Config) -> Descriptors {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    let mut limit = current;
    if current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = Some(wanted),
            Err(error) => tracing::debug!("the limit of open files stays at {current:?}: {error}"),
        }
    }
    let http = config.http.as_ref().map(|http| {
        let limits = http::Limits::from(http);
        let connections = fitting(limit, others(&config.limits), limits.connections);
        if connections < limits.connections {
            tracing::warn!(
                limit,
                configured = limits.connections,
                taken = connections,
                "fewer HTTP connections than configured, as the limit of open files is low (hint: raise LimitNOFILE)"
            );
        }
        http::Limits { connections, ..limits }
    });
    Descriptors { limit, http }
}

/// Connections of the update protocol at once; those that give way to newer ones take a moment to end.
fn others(limits: &LimitsConfig) -> usize {
    limits.connections + limits.peer_connections + 2 * limits.handshakes
}

/// HTTP connections that leave the reserve and the other connections alone; at least one.
fn fitting(limit: Option<u64>, others: usize, configured: usize) -> usize {
    let Some(limit) = limit else { return configured };
    let taken = RESERVE + PER_CONNECTION * others as u64;
    let room = usize::try_from(limit.saturating_sub(taken)).unwrap_or(usize::MAX);
    configured.min(room).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_takes_what_the_reserve_and_the_other_connections_leave() {
        assert_eq!(fitting(None, 8, 16), 16);
        assert_eq!(fitting(Some(1024), 8, 16), 16);
        assert_eq!(fitting(Some(1024), 8, 5000), 1024 - 64 - 16);
        assert_eq!(fitting(Some(85), 8, 16), 5);
        assert_eq!(fitting(Some(20), 8, 16), 1);
    }
}
