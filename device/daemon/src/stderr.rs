//! Log lines and errors on stderr, without waiting for a stalled reader.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{clock, escape};

/// Maximum bytes that a writable pipe accepts without blocking (`PIPE_BUF`).
pub(crate) const PIECE: usize = 4096;
/// Maximum time that a line waits for a slow reader. After a timeout, the following lines do not wait.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// Waits until the descriptor is writable, for at most `timeout`. Returns whether it is. An error counts as writable.
pub(crate) fn writable(descriptor: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
struct State {
    stalled: bool,
    /// Whether the last line is incomplete.
    partial: bool,
    lost: u64,
}

static STATE: Mutex<State> = Mutex::new(State {
    stalled: false,
    partial: false,
    lost: 0,
});

impl State {
    fn write(&mut self, bytes: &[u8]) -> bool {
        let descriptor = io::stderr();
        let mut rest = bytes;
        while !rest.is_empty() {
            let timeout = if self.stalled { Duration::ZERO } else { WRITE_TIMEOUT };
            if !writable(&descriptor, timeout).unwrap_or(false) {
                self.stalled = true;
                break;
            }
            match rustix::io::write(&descriptor, &rest[..rest.len().min(PIECE)]) {
                Ok(0) => break,
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.stalled = true,
                Err(_) => break,
            }
        }
        if rest.len() < bytes.len() {
            self.partial = !rest.is_empty();
        }
        rest.is_empty()
    }

    fn line(&mut self, line: &[u8]) {
        let started = !self.partial || self.write(b"\n");
        if started && self.lost > 0 {
            let text = format!(
                "{}  WARN log lines lost: cannot write to stderr lost={}\n",
                clock::now(),
                self.lost
            );
            if self.write(text.as_bytes()) {
                self.lost = 0;
            }
        }
        if started && self.lost == 0 && self.write(line) {
            self.stalled = false;
        } else {
            self.lost += 1;
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writer of log lines. Each call of `write` must pass a complete line. A line that cannot be written is dropped and
/// counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        state().line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the error that ends a command, with control characters escaped.
pub(crate) fn report(error: &str) {
    state().line(format!("error: {}\n", escape::indented(error)).as_bytes());
}
