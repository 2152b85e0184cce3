//! Frames from standard input.

use std::{io, time::Duration};

use rustix::io::Errno;

use super::{Frame, POLL_INTERVAL, Send, SourceState, Stop, splitter::Splitter};
use crate::{DaemonError, losses::LossLog, wait_readable};

/// Counter and log of the bytes outside of images while the stream runs.
struct Lost<'a> {
    state: &'a SourceState,
    counted: u64,
    log: LossLog,
}

impl Lost<'_> {
    fn count(&mut self, lost: u64) {
        let more = lost - self.counted;
        self.counted = lost;
        self.state.lose_bytes(more);
        let due = self.log.add(more);
        self.log_lost(due);
    }

    fn log_lost(&self, due: Option<u64>) {
        if let Some(bytes) = due {
            let total = self.counted;
            tracing::warn!(bytes, total, "bytes on standard input outside complete images");
        }
    }

    fn end(mut self) {
        let rest = self.log.rest();
        self.log_lost((rest > 0).then_some(rest));
    }
}

/// Reads images to the end of standard input.
pub(super) fn run(largest: u64, stop: &Stop, state: &SourceState, send: &mut Send<'_>) -> Result<(), DaemonError> {
    let failed = || DaemonError::io("cannot read standard input");
    let input = io::stdin();
    let mut splitter = Splitter::new(usize::try_from(largest).unwrap_or(usize::MAX));
    let mut buffer = vec![0; 64 << 10];
    let mut number = 0_u64;
    let mut lost = Lost {
        state,
        counted: 0,
        log: LossLog::default(),
    };
    let mut ended = false;
    while !ended && !stop.is_set() {
        state.alive();
        if !wait_readable(&input, POLL_INTERVAL).map_err(failed())? {
            lost.count(splitter.lost());
            continue;
        }
        match rustix::io::read(&input, &mut buffer) {
            Ok(0) => {
                ended = true;
                splitter.end();
            }
            Ok(count) => splitter.push(&buffer[..count]),
            Err(Errno::INTR) => {}
            // Another process that shares the descriptor may have made it non-blocking and read first.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(failed()(error.into())),
        }
        while let Some(bytes) = splitter.next_image() {
            let frame = Frame::new(number.to_string(), bytes);
            number += 1;
            if !send(frame) {
                return Ok(());
            }
        }
        lost.count(splitter.lost());
    }
    lost.end();
    Ok(())
}
