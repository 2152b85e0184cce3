//! `clr`. All of it is in the library beside this file.

fn main() -> std::process::ExitCode {
    clr_host_tools::main()
}
