//! Limit of file descriptors: raised at the start, with a reserve that connections cannot use.
//!
//! All connections together leave [`RESERVE`] descriptors for the store, the source and the control socket.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Config, LimitsConfig, http};

/// Descriptors for everything except connections: standard streams, listeners, store, source, camera, runtimes and open
/// files.
const RESERVE: u64 = 64;
/// Descriptors of one connection of the update protocol: its socket, and a file that it reads or writes.
const PER_CONNECTION: u64 = 2;
/// The limit to request. With millions, programs that iterate over all descriptors would be slow.
const WANTED: u64 = 4096;

/// The limit in effect, and the caps derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Limit of the process; `None` if unlimited.
    pub(crate) limit: Option<u64>,
    /// Caps of the HTTP server; `None` if the server is not configured.
    pub(crate) http: Option<http::Limits>,
}

/// Raises the limit as far as permitted, and reduces the HTTP server's connections to fit it.
pub(crate) fn prepare(config: &Config) -> Descriptors {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
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

/// Returns the maximum number of simultaneous connections of the update protocol, including evicted ones.
fn others(limits: &LimitsConfig) -> usize {
    limits.connections + limits.peer_connections + 2 * limits.handshakes
}

/// Returns how many HTTP connections fit in addition to the reserve and the other connections; at least one.
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
    fn http_gets_the_descriptors_left_by_the_reserve_and_the_other_connections() {
        assert_eq!(fitting(None, 8, 16), 16);
        assert_eq!(fitting(Some(1024), 8, 16), 16);
        assert_eq!(fitting(Some(1024), 8, 5000), 1024 - 64 - 16);
        assert_eq!(fitting(Some(85), 8, 16), 5);
        assert_eq!(fitting(Some(20), 8, 16), 1);
    }
}
