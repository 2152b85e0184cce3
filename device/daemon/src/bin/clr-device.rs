//! Program `clr-device`, a thin wrapper of the library.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    clr_daemon::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: the daemon runs on Linux only");
    std::process::ExitCode::FAILURE
}
