//! Hands frames from the source's thread to the inference loop: the newest wins, or each waits for its turn.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// What the receiver gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<T> {
    /// A frame.
    Frame(T),
    /// None came within the time given.
    Nothing,
    /// None will come any more.
    Closed,
}

/// A place for one frame.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
    /// Whether a frame that nobody took is replaced by the next; else the sender waits.
    latest: bool,
}

#[derive(Debug)]
struct Slot<T> {
    frame: Option<T>,
    closed: bool,
    dropped: u64,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(latest: bool) -> Self {
        let slot = Slot {
            frame: None,
            closed: false,
            dropped: 0,
        };
        Self {
            slot: Mutex::new(slot),
            changed: Condvar::new(),
            latest,
        }
    }

    /// Puts a frame in. False once the mailbox is closed.
    pub(crate) fn send(&self, frame: T) -> bool {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.latest && slot.frame.is_some() && !slot.closed {
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        if slot.closed {
            return false;
        }
        if slot.frame.replace(frame).is_some() {
            slot.dropped += 1;
        }
        self.changed.notify_all();
        true
    }

    /// Takes the frame that is there or comes within `patience`. A frame sent before closing is still handed out.
    pub(crate) fn receive(&self, patience: Duration) -> Received<T> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |slot: &mut Slot<T>| slot.frame.is_none() && !slot.closed;
        let (mut slot, _) = self
            .changed
            .wait_timeout_while(slot, patience, empty)
            .unwrap_or_else(PoisonError::into_inner);
        match slot.frame.take() {
            Some(frame) => {
                self.changed.notify_all();
                Received::Frame(frame)
            }
            None if slot.closed => Received::Closed,
            None => Received::Nothing,
        }
    }

    /// No more frames: the source is at its end, or the device stops.
    pub(crate) fn close(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Frames that were replaced before anybody took them.
    pub(crate) fn dropped(&self) -> u64 {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const LATE: Duration = Duration::from_secs(20);

    #[test]
    fn the_newest_frame_wins_and_the_others_are_counted() {
        let mailbox = Mailbox::new(true);
        for frame in 0..5 {
            assert!(mailbox.send(frame));
        }
        assert_eq!(mailbox.receive(SOON), Received::Frame(4));
        assert_eq!(mailbox.receive(SOON), Received::Nothing);
        assert_eq!(mailbox.dropped(), 4);
    }

    #[test]
    fn every_frame_is_handed_out_in_order_where_none_may_be_dropped() {
        let mailbox = Arc::new(Mailbox::new(false));
        let sender = Arc::clone(&mailbox);
        let thread = thread::spawn(move || {
            assert!((0..100).all(|frame| sender.send(frame)));
            sender.close();
        });
        let mut got = Vec::new();
        while let Received::Frame(frame) = mailbox.receive(LATE) {
            got.push(frame);
        }
        thread.join().unwrap();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        assert_eq!(mailbox.dropped(), 0);
    }

    #[test]
    fn closing_wakes_a_waiting_sender_and_receiver() {
        let mailbox = Arc::new(Mailbox::new(false));
        assert!(mailbox.send(0));
        let sender = Arc::clone(&mailbox);
        let thread = thread::spawn(move || sender.send(1));
        thread::sleep(SOON);
        mailbox.close();
        assert!(!thread.join().unwrap());
        assert_eq!(mailbox.receive(LATE), Received::Frame(0));
        assert_eq!(mailbox.receive(LATE), Received::Closed);
    }
}
