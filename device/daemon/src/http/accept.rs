//! Accept loop of the HTTP port. It admits connections within the caps, and keeps running when descriptors are
//! exhausted.

use std::{
    io::{self, Write as _},
    net::{IpAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Server, connection};
use crate::{seldom::Seldom, source::Stop};

/// Interval at which the loop checks whether the device is stopping.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Pause after a failed `accept`, which is usually caused by a lack of descriptors.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// Pause after a refused connection, which limits the cost of a flood.
const AFTER_REFUSAL: Duration = Duration::from_millis(2);

/// Response over the cap.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 28\r\nConnection: close\r\n\r\ntoo many connections at once";

/// Slot of an open connection, released on drop.
struct ConnectionSlot {
    server: Arc<Server>,
    remote: bool,
}

impl ConnectionSlot {
    fn take(server: &Arc<Server>, peer: IpAddr) -> Option<Self> {
        let limits = server.limits;
        let remote = !peer.to_canonical().is_loopback();
        if remote && !increment(&server.open_remote, limits.connections - limits.reserved_for_loopback()) {
            return None;
        }
        if !increment(&server.open, limits.connections) {
            if remote {
                server.open_remote.fetch_sub(1, Ordering::Relaxed);
            }
            return None;
        }
        Some(Self {
            server: Arc::clone(server),
            remote,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::Relaxed);
        if self.remote {
            self.server.open_remote.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Increments a count if it is below `most`. Returns whether it did.
fn increment(count: &AtomicUsize, most: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < most).then_some(open + 1)
        })
        .is_ok()
}

/// Accepts connections until `stop`.
pub(super) async fn run(listener: TcpListener, server: Arc<Server>, stop: Stop) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot serve HTTP: {error}"),
    };
    let (mut failures, mut refusals) = (Seldom::default(), Seldom::default());
    while !stop.is_set() {
        match timeout(POLL_INTERVAL, listener.accept()).await {
            // No connection is waiting.
            Err(_) => {}
            Ok(Ok((stream, peer))) => {
                if let Some(slot) = ConnectionSlot::take(&server, peer.ip()) {
                    let server = Arc::clone(&server);
                    tokio::spawn(async move {
                        connection::serve(stream, &server).await;
                        drop(slot);
                    });
                } else {
                    server.device.connection_refused();
                    if let Some(refused) = refusals.due() {
                        let most = server.limits.connections;
                        tracing::warn!(%peer, most, refused, "HTTP connection refused: too many at once");
                    }
                    refuse(stream);
                    sleep(AFTER_REFUSAL).await;
                }
            }
            // The peer disconnected before `accept`.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Ok(Err(error)) => {
                server.device.connection_refused();
                if let Some(failed) = failures.due() {
                    tracing::warn!(failed, "cannot accept an HTTP connection: {error}");
                }
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Writes the response, as far as the socket accepts it without blocking.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(BUSY);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Limits, *};
    use crate::http::memory::Fixed;

    #[test]
    fn peers_on_other_machines_leave_slots_for_loopback() {
        let server = Arc::new(Server {
            device: Arc::new(Fixed),
            limits: Limits {
                connections: 16,
                body_bytes: 1,
            },
            open: AtomicUsize::new(0),
            open_remote: AtomicUsize::new(0),
        });
        let (far, near): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [127, 0, 0, 1].into());
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let far_places: Vec<_> = (0..100).filter_map(|_| ConnectionSlot::take(&server, far)).collect();
        assert_eq!(far_places.len(), 12);
        let near_places: Vec<_> = [near, mapped, near, mapped, near]
            .into_iter()
            .filter_map(|peer| ConnectionSlot::take(&server, peer))
            .collect();
        assert_eq!(near_places.len(), 4);
        drop(far_places);
        // All slots are free again.
        assert_eq!(
            (0..100)
                .map_while(|_| ConnectionSlot::take(&server, near))
                .fold(Vec::new(), |mut all, slot| {
                    all.push(slot);
                    all
                })
                .len(),
            12
        );
        drop(near_places);
        assert_eq!(server.open.load(Ordering::Relaxed), 0);
        assert_eq!(server.open_remote.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_single_slot_is_open_to_every_peer() {
        let limits = |connections| Limits {
            connections,
            body_bytes: 1,
        };
        assert_eq!(limits(1).reserved_for_loopback(), 0);
        assert_eq!(limits(4).reserved_for_loopback(), 2);
        assert_eq!(limits(64).reserved_for_loopback(), 4);
    }

    #[test]
    fn the_busy_answer_states_its_length() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
}
