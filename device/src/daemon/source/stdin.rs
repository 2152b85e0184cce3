//! Frames from standard input.

use std::io::Read as _;

use super::{Frame, Send, Stop, pictures::Splitter};
use crate::daemon::DaemonError;

/// Reads pictures to the end of standard input.
pub(super) fn run(stop: &Stop, send: &mut Send<'_>) -> Result<(), DaemonError> {
    let mut input = std::io::stdin().lock();
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 64 << 10];
    let mut number = 0_u64;
    while !stop.is_set() {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(DaemonError::io("cannot read standard input")(error)),
        };
        splitter.push(&buffer[..count]);
        while let Some(bytes) = splitter.next_picture() {
            let frame = Frame::new(number.to_string(), bytes);
            number += 1;
            if !send(frame) {
                return Ok(());
            }
        }
    }
    let (skipped, rest) = splitter.finish();
    if skipped + rest > 0 {
        tracing::warn!(skipped, rest, "bytes on standard input that belong to no whole picture");
    }
    Ok(())
}
