//! Connection budgets by kind and address: the control socket, unauthenticated peers, and peers with an open session.
//!
//! If a budget is exhausted, the oldest connection that has not sent anything is evicted. Each connection has a thread.
//! An evicted connection counts until its thread has ended, so that the number of threads is bounded too.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::lock;

/// Kind of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The control socket.
    Control,
    /// TCP, from this address.
    Peer(IpAddr),
}

impl Class {
    /// Returns the name of the counter for refused connections of this class.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Peer(_) => "unknown",
        }
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    class: Class,
    /// A valid protocol frame was received.
    heard: bool,
    /// A session is open.
    open: bool,
    ended: Arc<AtomicBool>,
}

/// All connections of the device.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    all: Vec<Entry>,
    last: u64,
}

/// A slot in a budget, released on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    budget: Option<Arc<Budget>>,
    number: u64,
    ended: Arc<AtomicBool>,
    open: AtomicBool,
}

impl Budget {
    /// Returns a slot for a new connection if there are fewer than `most` of its class, or if a silent one of the class
    /// can be evicted. A remote address may have only one connection without a session. Connections with an open
    /// session do not count, except on the control socket.
    pub(crate) fn admit(self: &Arc<Self>, class: Class, most: usize) -> Option<Ticket> {
        let mut entries = lock(&self.0);
        let same_kind = |entry: &&Entry| match class {
            Class::Control => entry.class == Class::Control,
            Class::Peer(_) => entry.class != Class::Control && !entry.open,
        };
        let alive = entries.all.iter().filter(same_kind);
        let (gone, counted): (Vec<&Entry>, Vec<&Entry>) = alive.partition(|entry| entry.is_ended());
        // Evicted connections end within milliseconds, so a few more are tolerated.
        if gone.len() >= most {
            return None;
        }
        let own_address = match class {
            // Each remote address may have one connection; this machine may have as many as the cap allows.
            Class::Peer(address) if !address.is_loopback() => counted.iter().find(|entry| entry.class == class),
            _ => None,
        };
        let silent = |entry: &&&Entry| !entry.heard && !entry.open;
        let evicted = match own_address {
            Some(entry) if !silent(&entry) => return None,
            Some(entry) => Some(entry),
            None if counted.len() < most => None,
            None => Some(counted.iter().filter(silent).min_by_key(|entry| entry.number)?),
        };
        if let Some(entry) = evicted {
            entry.ended.store(true, Ordering::SeqCst);
        }
        entries.last += 1;
        let (number, ended) = (entries.last, Arc::new(AtomicBool::new(false)));
        entries.all.push(Entry {
            number,
            class,
            heard: false,
            open: false,
            ended: Arc::clone(&ended),
        });
        Some(Ticket {
            budget: Some(Arc::clone(self)),
            number,
            ended,
            open: AtomicBool::new(false),
        })
    }
}

impl Entry {
    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

impl Ticket {
    /// Returns a slot outside of all budgets, for a serial line.
    pub(crate) fn alone() -> Self {
        Self {
            budget: None,
            number: 0,
            ended: Arc::default(),
            open: AtomicBool::new(false),
        }
    }

    /// Returns whether the connection was evicted.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Returns whether a session is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Entries, usize) -> bool) -> bool {
        let Some(budget) = &self.budget else { return true };
        let mut entries = lock(&budget.0);
        let at = entries.all.iter().position(|entry| entry.number == self.number);
        at.is_some_and(|at| change(&mut entries, at))
    }

    /// Records a valid frame. The connection is then no longer evicted in favour of a newer one.
    pub(crate) fn hear(&self) {
        self.change(|entries, at| {
            entries.all[at].heard = true;
            true
        });
    }

    /// Moves the connection to the budget of open sessions. Returns false if there are already `peers` of them.
    pub(crate) fn open(&self, peers: usize) -> bool {
        let opened = self.change(|entries, at| {
            let control = entries.all[at].class == Class::Control;
            let others = entries.all.iter().enumerate();
            let others = others.filter(|(other, entry)| *other != at && entry.open && entry.class != Class::Control);
            if !control && others.count() >= peers {
                return false;
            }
            entries.all[at].open = true;
            true
        });
        self.open.store(opened, Ordering::SeqCst);
        opened
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.change(|entries, at| {
            entries.all.swap_remove(at);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Class {
        Class::Peer(address.parse().unwrap())
    }

    #[test]
    fn silent_peers_are_evicted_oldest_first_and_active_ones_never() {
        let budget = Arc::new(Budget::default());
        let place = || budget.admit(peer("127.0.0.1"), 4);
        let all: Vec<Ticket> = (0..4).map(|_| place().unwrap()).collect();
        all[0].hear();
        let fifth = place().unwrap();
        assert!(all[1].is_ended() && !all[0].is_ended() && !all[2].is_ended());
        fifth.hear();
        let _more: Vec<Ticket> = (0..2).map(|_| place().unwrap()).collect();
        assert!(all[2].is_ended() && all[3].is_ended());
    }

    #[test]
    fn threads_are_bounded_while_evicted_connections_end() {
        let budget = Arc::new(Budget::default());
        let mut kept = Vec::new();
        for _ in 0..1_000 {
            kept.extend(budget.admit(peer("127.0.0.1"), 4));
        }
        assert_eq!(kept.len(), 8);
        kept.clear();
        assert!(budget.admit(peer("127.0.0.1"), 4).is_some());
    }

    #[test]
    fn a_remote_address_has_one_slot_and_this_machine_all() {
        let budget = Arc::new(Budget::default());
        let first = budget.admit(peer("192.0.2.1"), 4).unwrap();
        let second = budget.admit(peer("192.0.2.1"), 4).unwrap();
        assert!(first.is_ended(), "its older one was silent");
        second.hear();
        assert!(budget.admit(peer("192.0.2.1"), 4).is_none());
        assert!(budget.admit(peer("192.0.2.2"), 4).is_some());
        // A connection with a session counts in another budget.
        assert!(second.open(8));
        assert!(budget.admit(peer("192.0.2.1"), 4).is_some());
    }

    #[test]
    fn peers_leave_the_control_socket_its_slots_and_sessions_have_a_separate_cap() {
        let budget = Arc::new(Budget::default());
        let sessions: Vec<Ticket> = (0..8)
            .map(|_| {
                let ticket = budget.admit(peer("127.0.0.1"), 4).unwrap();
                ticket.hear();
                assert!(ticket.open(8) && ticket.open(8));
                ticket
            })
            .collect();
        let ninth = budget.admit(peer("127.0.0.1"), 4).unwrap();
        assert!(!ninth.open(8));
        let control: Vec<Ticket> = (0..8).map(|_| budget.admit(Class::Control, 8).unwrap()).collect();
        for ticket in &control {
            assert!(ticket.open(8));
        }
        assert!(budget.admit(Class::Control, 8).is_none());
        drop(sessions);
        assert!(ninth.open(8));
    }
}
