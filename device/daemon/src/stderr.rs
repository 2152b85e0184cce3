//! Log lines and errors on stderr, written without ever waiting for its reader.

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

/// The most bytes that a pipe takes at once without blocking when it says that it takes any (`PIPE_BUF`).
pub(crate) const PIECE: usize = 4096;
/// How long a line may wait for a slow reader; once that was in vain, the next ones do not wait.
const PATIENCE: Duration = Duration::from_millis(100);

/// Waits until the descriptor takes bytes, or reports an error.
pub(crate) fn writable(descriptor: impl AsFd, patience: Duration) -> io::Result<bool> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
struct State {
    stalled: bool,
    /// Whether the last line was cut.
    cut: bool,
    lost: u64,
}

static STATE: Mutex<State> = Mutex::new(State {
    stalled: false,
    cut: false,
    lost: 0,
});

impl State {
    fn write(&mut self, bytes: &[u8]) -> bool {
        let descriptor = io::stderr();
        let mut rest = bytes;
        while !rest.is_empty() {
            let patience = if self.stalled { Duration::ZERO } else { PATIENCE };
            if !writable(&descriptor, patience).unwrap_or(false) {
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
            self.cut = !rest.is_empty();
        }
        rest.is_empty()
    }

    fn line(&mut self, line: &[u8]) {
        let started = !self.cut || self.write(b"\n");
        if started && self.lost > 0 {
            let text = format!(
                "{}  WARN log lines lost: stderr took no more lost={}\n",
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

/// Writer of log lines; each call of `write` holds a whole one. A line that finds no room is dropped and counted.
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
