//! Lowest priority of the tuning threads.

/// Gives the calling thread, and the threads that it starts, the lowest priority (niceness 19). Called first on the
/// tuning thread, so that inference takes the CPU whenever it has a frame.
///
/// # Errors
/// The system's reason. Tuning works without it.
#[cfg(target_os = "linux")]
pub fn lower_priority() -> Result<(), String> {
    // On Linux, niceness belongs to a thread, and a process id of 0 means the calling thread.
    rustix::process::nice(19).map(|_| ()).map_err(|error| error.to_string())
}

/// Fails on systems other than Linux.
#[cfg(not(target_os = "linux"))]
pub fn lower_priority() -> Result<(), String> {
    Err("only Linux has priorities of threads".to_owned())
}
