//! `clr push`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail};
use clap::Args;
use clr_adapters::{Digest, delta};
use clr_transfer::{ClientError, Committed, Endpoint, EndpointClient, FailureCode, Kind, Pushed, SystemClock};
use serde::Serialize;

use super::{
    Context,
    device::{client, progress},
};
use crate::{backbones::read_adapter, output::human_bytes};

/// Maximum number of files in the folder of a pushed file that are considered as bases.
const MAX_NEIGHBOURS: usize = 256;

/// Send adapters to a device
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr push birds.clr --to tcp:robot.local:7171\n  clr push birds.clr flowers.clr --to \
                  exec:'ssh robot clr-device stdio'\n  clr push birds-5.clr --base birds-4.clr --to \
                  serial:/dev/ttyUSB0@115200\n\nIf the device has an earlier version that is in the folder of FILE \
                  or given with --base, only the difference (delta) is sent. To resume an interrupted push, run it \
                  again."
)]
pub(crate) struct PushArgs {
    /// The adapters
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Device: tcp:HOST:PORT, unix:PATH, serial:PATH[@BAUD] or exec:COMMAND
    #[arg(long, env = "CLR_DEVICE", value_name = "ENDPOINT", hide_env_values = true)]
    to: Endpoint,
    /// Earlier version that the device may have; may be repeated
    #[arg(long, value_name = "FILE")]
    base: Vec<PathBuf>,
    /// Send complete files, never deltas
    #[arg(long, alias = "whole", conflicts_with = "base")]
    no_delta: bool,
}

#[derive(Serialize)]
struct PushDocument {
    device: String,
    files: Vec<PushedDocument>,
}

#[derive(Serialize)]
struct PushedDocument {
    path: PathBuf,
    task: String,
    version: u64,
    digest: String,
    /// Bytes of the file.
    bytes: usize,
    /// Bytes of the file or delta that were sent, including repetitions.
    sent: u64,
    /// Number of these bytes that were sent more than once.
    repeated: u64,
    /// Bytes that the device already had from an earlier attempt.
    resumed: u64,
    /// The base of the delta.
    base: Option<PathBuf>,
    /// Number of frames that the adapter has to serve on trial; 0 if it is confirmed.
    trial_frames: u32,
    seconds: f64,
}

pub(crate) fn run(args: &PushArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let mut adapters = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
        adapters.push((path, read_adapter(path)?.adapter.header, bytes));
    }
    let clock = SystemClock::new();
    let mut client = client(&args.to, &clock)?;
    let device = client.device()?;
    let mut document = PushDocument {
        device: device.device.clone(),
        files: Vec::new(),
    };
    for (path, header, bytes) in adapters {
        if header.backbone != device.backbone {
            bail!(
                "'{}' is for backbone {}, the device '{}' runs {}\nhint: train it on the device's backbone",
                path.display(),
                header.backbone.short(),
                device.device,
                device.backbone.short()
            );
        }
        let start = Instant::now();
        let base = if device.capabilities.delta && !args.no_delta {
            base_of(&mut client, &header.task, path, args)?
        } else {
            None
        };
        let (pushed, base) = send(&mut client, path, &bytes, base, context)?;
        let Committed::Adapter {
            task,
            version,
            digest,
            trial_frames,
        } = pushed.committed
        else {
            bail!("the device did not accept '{}' as an adapter", path.display());
        };
        let row = PushedDocument {
            path: path.clone(),
            task,
            version,
            digest: digest.to_string(),
            bytes: bytes.len(),
            sent: pushed.sent,
            repeated: pushed.repeated,
            resumed: pushed.resumed,
            base,
            trial_frames,
            seconds: start.elapsed().as_secs_f64(),
        };
        if !context.output.json {
            context.output.line(&describe(&row))?;
        }
        document.files.push(row);
    }
    if context.output.json {
        context.output.document("push", &document)?;
    }
    Ok(0)
}

fn describe(row: &PushedDocument) -> String {
    let how = match &row.base {
        Some(base) => format!(", as a delta from '{}'", base.display()),
        None => String::new(),
    };
    let state = match row.trial_frames {
        0 => "in use".to_owned(),
        frames => format!("on trial for {frames} frames"),
    };
    format!(
        "{}: version {} {state}; {} of {} sent{how}",
        row.task,
        row.version,
        human_bytes(row.sent),
        human_bytes(row.bytes as u64)
    )
}

/// Returns a local file that the device also has for the task, if there is one.
fn base_of(
    client: &mut EndpointClient<'_>,
    task: &str,
    path: &Path,
    args: &PushArgs,
) -> anyhow::Result<Option<(PathBuf, Vec<u8>)>> {
    let on_device: HashMap<Digest, u64> = client
        .list()?
        .into_iter()
        .filter(|summary| summary.task == task)
        .map(|summary| (summary.digest, summary.file_bytes))
        .collect();
    if on_device.is_empty() {
        return Ok(None);
    }
    let mut candidates = args.base.clone();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) {
        let mut neighbours: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "clr"))
            .collect();
        neighbours.sort();
        neighbours.truncate(MAX_NEIGHBOURS);
        candidates.extend(neighbours);
    }
    for candidate in candidates {
        let named = args.base.contains(&candidate);
        // A file whose length differs from the device's file does not have to be read.
        let length = std::fs::metadata(&candidate).map(|metadata| metadata.len());
        match length {
            Ok(length) if on_device.values().any(|&bytes| bytes == length) => {}
            Err(error) if named => {
                return Err(error).with_context(|| format!("cannot read '{}'", candidate.display()));
            }
            _ => continue,
        }
        match std::fs::read(&candidate) {
            Ok(bytes) if on_device.contains_key(&Digest::of(&bytes)) => return Ok(Some((candidate, bytes))),
            Err(error) if named => {
                return Err(error).with_context(|| format!("cannot read '{}'", candidate.display()));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Sends a delta if there is a base and the delta is smaller, otherwise the complete file.
fn send(
    client: &mut EndpointClient<'_>,
    path: &Path,
    bytes: &[u8],
    base: Option<(PathBuf, Vec<u8>)>,
    context: &Context<'_>,
) -> anyhow::Result<(Pushed, Option<PathBuf>)> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let during = || format!("while sending '{}'", path.display());
    if let Some((base_path, base)) = base
        && let Some(difference) = delta::diff(&base, bytes)
    {
        let kind = Kind::of_delta(Digest::of(&base), bytes);
        let bar = context.output.bytes_bar(difference.len() as u64, &name);
        match client.push(&difference, kind, &mut |step| progress(&bar, step)) {
            Ok(pushed) => return Ok((pushed, Some(base_path))),
            Err(ClientError::Refused(failure))
                if matches!(
                    failure.code,
                    FailureCode::NO_BASE | FailureCode::DELTA | FailureCode::UNSUPPORTED
                ) =>
            {
                tracing::info!("{failure}; sending the complete file");
            }
            Err(error) => return Err(error).with_context(during),
        }
    }
    let bar = context.output.bytes_bar(bytes.len() as u64, &name);
    let pushed = client
        .push(bytes, Kind::Adapter, &mut |step| progress(&bar, step))
        .with_context(during)?;
    Ok((pushed, None))
}
