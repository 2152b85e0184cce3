//! Memory of the process.

/// Returns the peak resident memory of this process in bytes; `None` if the system does not report it (systems other
/// than Linux).
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// Returns the resident memory of this process in bytes; `None` if the system does not report it (systems other than
/// Linux).
pub fn resident_memory() -> Option<u64> {
    status("VmRSS:")
}

/// Returns a size from `/proc/self/status` in bytes.
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(1024 * kilobytes)
}
