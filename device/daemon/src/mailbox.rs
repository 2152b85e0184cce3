//! Mailbox for one frame between the source's thread and the inference loop. A newer frame replaces a waiting one, or
//! the sender waits.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Result of a receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<T> {
    /// A frame.
    Frame(T),
    /// No frame within the timeout.
    Nothing,
    /// The mailbox is closed and empty.
    Closed,
}

/// Mailbox with one slot.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
    /// Whether a new frame replaces one that was not received yet; otherwise the sender waits.
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

    /// Sends a frame. Returns false if the mailbox is closed.
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

    /// Receives a frame; waits for up to `timeout`. A frame that was sent before closing is still delivered.
    pub(crate) fn receive(&self, timeout: Duration) -> Received<T> {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |slot: &mut Slot<T>| slot.frame.is_none() && !slot.closed;
        let (mut slot, _) = self
            .changed
            .wait_timeout_while(slot, timeout, empty)
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

    /// Closes the mailbox, because the source has ended or the device is stopping.
    pub(crate) fn close(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Returns the number of frames replaced before they were received.
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
    fn without_dropping_every_frame_is_delivered_in_order() {
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
