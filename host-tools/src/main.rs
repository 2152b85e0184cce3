//! The program `clr`; its code is in the library.

fn main() -> std::process::ExitCode {
    clr_host_tools::main()
}
