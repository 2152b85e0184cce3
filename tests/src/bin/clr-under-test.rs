//! The program `clr` with a separate name, built with the tests of this crate.

fn main() -> std::process::ExitCode {
    clr_host_tools::main()
}
