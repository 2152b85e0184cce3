//! Admission of sessions: known hosts, enrolment, plain sessions, and caps per host.

use clr_transfer::{AccessRefusal, Admission, PeerKey, PeerSecret};

use super::{Gate, Via};
use crate::lock;

impl Gate {
    /// Returns whether the open session may continue: its host is still known, or plain sessions are still accepted.
    pub(super) fn may_stay(&self) -> bool {
        let host = *lock(&self.host);
        match host {
            Some(host) => self.access.roles(&host).is_some(),
            // Without an open session, there is nothing to end.
            None => !self.ticket.is_open() || self.accepts_plain(),
        }
    }

    fn accepts_plain(&self) -> bool {
        let config = self.runtime.config.load();
        match self.via {
            Via::Socket { .. } => true,
            Via::Tcp(peer) => {
                let allowed = config.tcp.as_ref().is_some_and(|tcp| tcp.plain);
                allowed || (peer.ip().to_canonical().is_loopback() && !self.access.has_hosts())
            }
            Via::Serial => config.serial.as_ref().is_some_and(|serial| serial.plain),
        }
    }

    fn refuse(&self, refusal: AccessRefusal) -> AccessRefusal {
        self.runtime.counters.connections_refused.add("session");
        tracing::debug!(via = ?self.via, refusal = refusal.name(), "session refused");
        refusal
    }
}

impl Admission for Gate {
    fn secret(&self) -> Option<PeerSecret> {
        self.ticket.hear();
        self.access.secret()
    }

    fn old_secret(&self) -> Option<PeerSecret> {
        self.access.old_secret()
    }

    fn announced(&self, host: &PeerKey) {
        let name = self.access.name(host);
        tracing::info!(name, key = host.short(), "host received the device's new key");
    }

    fn admits_plain(&self) -> bool {
        let accepts = self.accepts_plain();
        if accepts {
            self.ticket.hear();
        } else {
            self.refuse(AccessRefusal::PlainNotTaken);
        }
        accepts
    }

    fn admits(&self, host: &PeerKey) -> Result<(), AccessRefusal> {
        match self.access.roles(host) {
            Some(_) => Ok(()),
            None => Err(self.refuse(AccessRefusal::UnknownHost)),
        }
    }

    fn enrolment(&self) -> Option<[u8; 32]> {
        lock(&self.access.enrolment).psk()
    }

    fn enrol(&self, host: &PeerKey, name: &str) -> Result<(), AccessRefusal> {
        self.access.enrol(host, name).map_err(|refusal| self.refuse(refusal))
    }

    fn wrong_code(&self) {
        self.refuse(AccessRefusal::WrongCode);
        self.access.wrong_code();
    }

    fn enter(&self, host: Option<&PeerKey>) -> Result<(), AccessRefusal> {
        let limits = self.runtime.config.load().limits.clone();
        self.leave();
        if let Some(host) = host {
            if !self.access.enter(host, limits.host_connections) {
                return Err(self.refuse(AccessRefusal::Busy));
            }
            *lock(&self.host) = Some(*host);
        }
        if !self.ticket.open(limits.peer_connections) {
            self.leave();
            return Err(self.refuse(AccessRefusal::Busy));
        }
        Ok(())
    }

    fn calculate(&self, work: &mut dyn FnMut()) {
        self.access.calculate(work);
    }
}
