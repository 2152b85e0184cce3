//! Memory that nobody holds any more.

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
