//! SIGTERM and SIGINT end the device after the frame and the write at hand; SIGHUP reads the configuration again; a file that may not
//! grow any more is an error of that write, not the end (SIGXFSZ).

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

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// End.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Calls `act` on a thread of its own for every signal.
pub(crate) fn listen(act: impl Fn(Request) + Send + 'static) -> Result<(), DaemonError> {
    // The flag is of no use: that there is a handler makes the write fail with EFBIG instead.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(DaemonError::io("cannot listen for signals"))?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(DaemonError::io("cannot listen for signals"))?;
    thread::Builder::new()
        .name("clr-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                act(if signal == SIGHUP {
                    Request::Reload
                } else {
                    Request::Stop
                });
            }
        })
        .map_err(DaemonError::io("cannot start the signal thread"))?;
    Ok(())
}
