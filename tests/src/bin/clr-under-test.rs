//! The program `clr` under a name of its own, so that the tests of this crate find it built beside them.

fn main() -> std::process::ExitCode {
    clr_host_tools::main()
}
