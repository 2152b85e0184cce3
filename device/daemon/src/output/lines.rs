//! Writer of complete lines to a descriptor that may stall, be full or be closed.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    time::Duration,
};

use rustix::io::Errno;

use crate::{
    source::Stop,
    stderr::{PIECE, writable},
};

/// Interval between checks of `abandoned` while the descriptor accepts nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Returns whether the error means that no reader is left.
pub(super) fn reader_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Writer of lines. The rest of a partially written line is written before the next one.
#[derive(Debug)]
pub(super) struct LineWriter {
    output: OwnedFd,
    rest: Vec<u8>,
}

/// Returns whether the descriptor is a file whose last byte is not a line feed, as after a power cut or with a full
/// disk.
fn ends_within_a_line(output: &OwnedFd) -> io::Result<bool> {
    let file = File::open(format!("/proc/self/fd/{}", output.as_raw_fd()))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

impl LineWriter {
    pub(super) fn new(output: OwnedFd) -> Self {
        // Only regular files are reopened. Reopening a pipe or a terminal could block or take input from it.
        let file = rustix::fs::fstat(&output)
            .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode).is_file());
        let rest = if file && ends_within_a_line(&output).unwrap_or(false) {
            b"\n".to_vec()
        } else {
            Vec::new()
        };
        Self { output, rest }
    }

    /// Writes a line. If it can only be written in part, the rest is kept and written before the next line.
    ///
    /// # Errors
    /// The system's error, if nothing of the line was written or no reader is left. The line is then lost.
    pub(super) fn line(&mut self, line: &[u8], abandoned: &Stop) -> io::Result<()> {
        self.write_rest(abandoned)?;
        match self.write(line, abandoned) {
            (0, Err(error)) => Err(error),
            (_, Err(error)) if reader_gone(&error) => Err(error),
            (written, _) => {
                self.rest.extend_from_slice(&line[written..]);
                Ok(())
            }
        }
    }

    /// Writes the rest of the last line.
    pub(super) fn finish(&mut self, abandoned: &Stop) {
        if let Err(error) = self.write_rest(abandoned)
            && !reader_gone(&error)
        {
            tracing::warn!("the last result on stdout is incomplete: {error}");
        }
    }

    fn write_rest(&mut self, abandoned: &Stop) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        let (written, done) = self.write(&rest, abandoned);
        self.rest.extend_from_slice(&rest[written..]);
        done
    }

    /// Writes bytes. Returns how many were written, and the error that stopped the write.
    fn write(&self, bytes: &[u8], abandoned: &Stop) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            let timeout = if abandoned.is_set() {
                Duration::ZERO
            } else {
                POLL_INTERVAL
            };
            match writable(self.output.as_fd(), timeout) {
                Ok(true) => {}
                Ok(false) if abandoned.is_set() => {
                    let reason = io::Error::new(ErrorKind::TimedOut, "its reader stalled");
                    return (written, Err(reason));
                }
                Ok(false) => continue,
                Err(error) => return (written, Err(error)),
            }
            let piece = &bytes[written..bytes.len().min(written + PIECE)];
            match rustix::io::write(&self.output, piece) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                // Another process that shares the descriptor filled it first.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return (written, Err(error.into())),
            }
        }
        (written, Ok(()))
    }
}
