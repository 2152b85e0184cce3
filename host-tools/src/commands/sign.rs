//! `clr sign`.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::Args;
use clr_adapters::read_secret_key;
use clr_adapters::{Digest, Terms, encode, sign_release};
use serde::Serialize;

use super::Context;
use crate::{
    backbones::read_adapter,
    destination::{try_output, write_atomically},
};

/// Sign adapters; set their version, expiry and audience
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  clr sign --key fleet.key birds.clr flowers.clr\n  clr sign --key fleet.key --set-version 4 --expires 90 birds.clr -o birds-4.clr\n  clr sign --key fleet.key --audience fleet-a --audience 'gate-*' birds.clr\n\nWithout -o the files are signed in place. The weights stay bit-identical. A file keeps its expiry and audience unless new ones are given."
)]
pub(crate) struct SignArgs {
    /// The adapters
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Secret key, from `clr keygen`
    #[arg(short, long, value_name = "FILE")]
    key: PathBuf,
    /// Version to set; devices accept only versions above their highest
    #[arg(long, alias = "release", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    set_version: Option<u64>,
    /// Remove what a device needs to learn new classes of the task
    #[arg(long)]
    without_class_features: bool,
    /// Days after which devices refuse to install it
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    expires: Option<u32>,
    /// Fleet or device, `*` for any characters; may be repeated [default: all]
    #[arg(long, value_name = "PATTERN")]
    audience: Vec<String>,
    /// Signed file to write [default: in place]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct SignDocument {
    key: String,
    files: Vec<SignedDocument>,
}

#[derive(Serialize)]
struct SignedDocument {
    path: PathBuf,
    task: String,
    version: u64,
    expires: Option<u64>,
    audience: Vec<String>,
    digest: String,
    bytes: usize,
}

pub(crate) fn run(args: &SignArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    if args.output.is_some() && args.files.len() > 1 {
        bail!("--output takes one file, got {}", args.files.len());
    }
    for path in args.output.as_ref().map_or(&args.files[..], std::slice::from_ref) {
        // A missing file is reported when it is read.
        if args.output.is_some() || path.exists() {
            try_output(path, 0)?;
        }
    }
    let key = read_secret_key(&args.key)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let expires = args.expires.map(|days| now + u64::from(days) * 86_400);
    let mut files = Vec::with_capacity(args.files.len());
    for path in &args.files {
        let mut decoded = read_adapter(path)?;
        let before = decoded.release.take();
        let terms = Terms {
            // Without an expiry, the file must not depend on the time of signing.
            created: match expires {
                Some(_) => Some(now),
                None => before.as_ref().and_then(|release| release.created),
            },
            audience: match (&args.audience[..], before) {
                ([], Some(release)) => release.audience,
                (patterns, _) => patterns.to_vec(),
            },
        };
        let header = &mut decoded.adapter.header;
        // A publisher's signature turns an adapter tuned on a device into a version of the publisher.
        let removed = args.without_class_features && header.class_features.take().is_some();
        let changed = header.revision != 0 || args.set_version.is_some() || expires.is_some() || removed;
        header.revision = 0;
        header.version = args.set_version.unwrap_or(header.version);
        header.expires = expires.or(header.expires);
        let (task, version, expires) = (header.task.clone(), header.version, header.expires);
        let plain = if changed || decoded.format_version == 1 {
            encode(&decoded.adapter, decoded.encoding)?
        } else {
            std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?
        };
        let signed = sign_release(&plain, &terms, &key).with_context(|| format!("cannot sign '{}'", path.display()))?;
        let path = args.output.as_ref().unwrap_or(path).clone();
        write_atomically(&path, &signed)?;
        files.push(SignedDocument {
            path,
            task,
            version,
            expires,
            audience: terms.audience,
            digest: Digest::of(&signed).to_string(),
            bytes: signed.len(),
        });
    }
    let document = SignDocument {
        key: key.public().to_string(),
        files,
    };
    let output = context.output;
    if output.json {
        output.document("sign", &document)?;
        return Ok(0);
    }
    for file in &document.files {
        let whom = match &file.audience[..] {
            [] => String::new(),
            patterns => format!(", for {}", patterns.join(", ")),
        };
        let until = file.expires.map_or(String::new(), |at| {
            format!(", expires in {} days", at.saturating_sub(now) / 86_400)
        });
        output.line(&format!(
            "signed  {} (task {}, version {}{whom}{until})",
            file.path.display(),
            file.task,
            file.version
        ))?;
    }
    Ok(0)
}
