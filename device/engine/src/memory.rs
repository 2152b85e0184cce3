//! How much memory the process has, and giving back what nobody holds any more.

/// Resident bytes of this process (`/proc/self/statm`); 0 where the system does not say.
pub fn resident_memory() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let pages = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}

/// Gives memory that was freed back to the system.
///
/// glibc keeps what is freed in the middle of its heap: a program that replaces adapters grows by about 5 MB over its first twenty
/// replacements, and one that tuned keeps what tuning took. Takes about a millisecond; to be called after such changes, not between frames.
/// Other C libraries do this by themselves, and nothing is done there.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no arguments that could be wrong; glibc takes its own locks. It touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
