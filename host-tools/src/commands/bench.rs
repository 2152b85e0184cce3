//! `clr bench`.

use clap::Args;

use super::Context;

/// Measure this machine
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  clr bench")]
pub(crate) struct BenchArgs {}

pub(crate) fn run(_args: &BenchArgs, _context: &Context<'_>) -> anyhow::Result<u8> {
    Ok(0)
}
