//! What a process does that does not answer.

use std::{fmt::Write as _, fs, process::Child};

/// Returns a line for each thread of the process with its name, the system call that it is in, and the kernel's function.
pub(super) fn threads(process: &Child) -> String {
    let mut text = String::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id()));
    for task in tasks.into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, syscall, function) = (read("comm"), read("syscall"), read("wchan"));
        let _ = writeln!(
            text,
            "thread {}: syscall {}, in {function}",
            name.trim(),
            syscall.trim()
        );
    }
    text
}
