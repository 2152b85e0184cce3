//! Resident memory of the process, and release of freed heap memory.

/// Returns the resident memory of this process in bytes (`/proc/self/statm`); 0 on systems other than Linux.
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

/// Returns freed heap memory to the system.
///
/// glibc keeps memory that was freed in the middle of its heap. A program that replaces adapters therefore grows by
/// about 5 MB over its first twenty replacements, and a program that tunes keeps its peak. A call takes about a
/// millisecond, so call it after such changes and not between frames. Does nothing with other C libraries, which
/// release memory themselves.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: any argument is valid. glibc takes its own locks, and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}
