//! A thread that yields to every other.

/// Puts the calling thread, and what it starts, behind every other: the lowest niceness. To be called first thing on the thread that
/// tunes; inference then takes the processor whenever it has a frame. Says why it could not; tuning works all the same.
#[cfg(target_os = "linux")]
pub fn lower_priority() -> Result<(), String> {
    // On Linux niceness is a thread's own, and a process id of 0 means the calling thread.
    rustix::process::nice(19).map(|_| ()).map_err(|error| error.to_string())
}

/// Nothing on other systems than Linux.
#[cfg(not(target_os = "linux"))]
pub fn lower_priority() -> Result<(), String> {
    Err("only Linux has priorities of threads".to_owned())
}
