//! Lower priority for threads that serve peers.

/// Niceness of threads that serve peers.
const NICENESS: i32 = 10;

/// Lowers the priority of the calling thread, so that threads which classify frames come first. On Linux, niceness
/// applies to a single thread.
pub(super) fn yield_to_frames() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        let thread = std::thread::current();
        tracing::debug!(thread = thread.name(), "cannot lower the thread's priority: {error}");
    }
}
