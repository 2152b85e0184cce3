//! Serial line, served for as long as the device runs.

use std::{sync::Arc, thread, time::Duration};

use clr_transfer::{Device as _, Link, ServeLimits};

use super::{Connections, Via, serve_connection};
use crate::{DaemonError, SerialConfig, budget::Ticket};

/// Pause between two sessions.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before a failed line is reopened.
const REOPEN_DELAY: Duration = Duration::from_secs(2);

/// Opens a serial line.
pub(crate) fn open_serial(config: &SerialConfig) -> Result<Link, DaemonError> {
    let path = config.port.display().to_string();
    Link::serial(&path, config.baud).map_err(DaemonError::io(format!("cannot open serial line '{path}'")))
}

impl Connections {
    /// Serves a serial line; reopens it after a failure.
    pub(crate) fn serial(self: &Arc<Self>, config: &SerialConfig, line: Link) -> Result<(), DaemonError> {
        let path = config.port.display().to_string();
        let baud = config.baud;
        let open = move || Link::serial(&path, baud);
        let mut link = Some(line);
        let connections = Arc::clone(self);
        thread::Builder::new()
            .name("clr-serial".to_owned())
            .spawn(move || {
                let limits = ServeLimits::for_baud(baud);
                let stopping = || connections.runtime.stopping();
                while !stopping() {
                    match link.take().map_or_else(&open, Ok) {
                        // A serial line has no end of stream, so one session is served after the other.
                        Ok(mut line) => {
                            while !stopping() {
                                let gate = connections.gate(Via::Serial, Ticket::alone());
                                if !serve_connection(&gate, "serial line", &mut line, &limits) {
                                    break;
                                }
                            }
                            thread::sleep(PAUSE);
                        }
                        Err(error) => {
                            tracing::warn!("serial line: {error}");
                            thread::sleep(REOPEN_DELAY);
                        }
                    }
                }
            })
            .map_err(DaemonError::io("cannot start the serial line's thread"))?;
        Ok(())
    }
}
