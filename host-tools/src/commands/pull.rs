//! `clr pull`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use clr_adapters::{Limits, Provenance, decode};
use clr_transfer::{Endpoint, Slot, SystemClock};
use serde::Serialize;

use super::{
    Context,
    device::{client, progress},
};
use crate::{
    destination::{try_output, write_atomically},
    output::human_bytes,
};

/// Fetch an adapter from a device, such as one that it tuned
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr pull birds --from tcp:robot.local:7171\n  clr pull birds --slot original --from exec:'ssh robot clr-device stdio' -o birds-original.clr"
)]
pub(crate) struct PullArgs {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// Device: tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND
    #[arg(long, env = "CLR_DEVICE", value_name = "ENDPOINT", hide_env_values = true)]
    from: Endpoint,
    /// File to write [default: <task>.clr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Slot of the task
    #[arg(long, value_enum, default_value_t)]
    slot: SlotArg,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// A slot of a task.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SlotArg {
    /// The one in use
    #[default]
    Serving,
    /// The confirmed one
    Confirmed,
    /// The one on trial
    OnTrial,
    /// The one confirmed before
    LastGood,
    /// The publisher's original of what the device tuned
    Original,
}

#[derive(Serialize)]
struct PullDocument {
    path: PathBuf,
    task: String,
    version: u64,
    revision: u32,
    provenance: Provenance,
    digest: String,
    bytes: usize,
}

pub(crate) fn run(args: &PullArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let plain = !args.task.contains(['/', '\\']) && !args.task.starts_with('.');
    let path = match &args.output {
        Some(path) => path.clone(),
        None if plain => PathBuf::from(format!("{}.clr", args.task)),
        None => bail!(
            "'{}' cannot be a file's name\nhint: name a file with --output",
            args.task
        ),
    };
    if path.exists() && !args.force {
        bail!(
            "'{}' exists\nhint: --force replaces it, --output names another",
            path.display()
        );
    }
    try_output(&path, 0)?;
    let cap = Limits::DEFAULT.file_bytes as u64;
    let clock = SystemClock::new();
    let mut client = client(&args.from, &clock)?;
    let slot = match args.slot {
        SlotArg::Serving => Slot::Serving,
        SlotArg::Confirmed => Slot::Confirmed,
        SlotArg::OnTrial => Slot::OnTrial,
        SlotArg::LastGood => Slot::LastGood,
        SlotArg::Original => Slot::Original,
    };
    let bar = context.output.bytes_bar(0, &args.task);
    let pulled = client.pull(&args.task, slot, cap, &mut |step| progress(&bar, step))?;
    let decoded = decode(&pulled.bytes).context("the device sent no usable adapter")?;
    write_atomically(&path, &pulled.bytes)?;
    let header = decoded.adapter.header;
    let document = PullDocument {
        path,
        task: header.task,
        version: header.version,
        revision: header.revision,
        provenance: header.provenance,
        digest: pulled.digest.to_string(),
        bytes: pulled.bytes.len(),
    };
    if context.output.json {
        return context
            .output
            .document("pull", &document)
            .map(|()| 0)
            .map_err(Into::into);
    }
    context.output.line(&format!(
        "{}: version {}, revision {}, {} written to '{}'",
        document.task,
        document.version,
        document.revision,
        human_bytes(document.bytes as u64),
        document.path.display()
    ))?;
    Ok(0)
}
