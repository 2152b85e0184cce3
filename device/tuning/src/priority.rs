//! Lowest priority for the tuning threads.

/// Sets the calling thread, and the threads that it starts later, to the lowest priority (niceness 19). Call it first
/// on the tuning thread, so that inference gets the CPU whenever it has a frame.
///
/// # Errors
/// The system's reason, if the priority cannot be set. Tuning also works at normal priority.
#[cfg(target_os = "linux")]
pub fn lower_priority() -> Result<(), String> {
    // On Linux, niceness applies to a single thread, and the process id 0 means the calling thread.
    rustix::process::nice(19).map(|_| ()).map_err(|error| error.to_string())
}

/// Fails on systems other than Linux.
#[cfg(not(target_os = "linux"))]
pub fn lower_priority() -> Result<(), String> {
    Err("only Linux has priorities of threads".to_owned())
}
