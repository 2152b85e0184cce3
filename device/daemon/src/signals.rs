//! Signals: SIGTERM and SIGINT stop the device after the current frame and write; SIGHUP reloads the configuration.
//!
//! SIGXFSZ is caught, so that a write beyond the file size limit fails and does not end the process.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag,
    iterator::Signals,
};

use super::DaemonError;

/// Request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Stop the device.
    Stop,
    /// Reload the configuration.
    Reload,
}

/// Calls `handle` for every signal, on a dedicated thread.
pub(crate) fn listen(handle: impl Fn(Request) + Send + 'static) -> Result<(), DaemonError> {
    // The flag is not used. A registered handler alone makes the write fail with EFBIG.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(DaemonError::io("cannot listen for signals"))?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(DaemonError::io("cannot listen for signals"))?;
    thread::Builder::new()
        .name("clr-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                handle(if signal == SIGHUP {
                    Request::Reload
                } else {
                    Request::Stop
                });
            }
        })
        .map_err(DaemonError::io("cannot start the signal thread"))?;
    Ok(())
}
