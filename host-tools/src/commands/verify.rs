//! `clr verify`.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Args;
use clr_adapters::read_public_key;
use clr_adapters::{Limits, Policy, PublicKey, Refusal, SignerClass, Trust, TrustedKey, admit, decode};
use serde::Serialize;

use super::Context;
use crate::exit;

/// Check signatures of adapters, as a device does
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr verify --key fleet.pub birds.clr\n\nExit code 0 if every file is signed by one of \
                  the keys, unaltered and not expired; 1 otherwise. With --audience, the files must also be valid \
                  for devices with these names."
)]
pub(crate) struct VerifyArgs {
    /// The adapters
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Trusted public key, or its file; may be repeated
    #[arg(short, long, required = true, value_name = "KEY")]
    key: Vec<String>,
    /// Public key of a device, for adapters that it tuned
    #[arg(long, value_name = "KEY")]
    device_key: Option<String>,
    /// Device or fleet that the files must be signed for; may be repeated
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
}

#[derive(Serialize)]
struct VerifyDocument {
    valid: bool,
    files: Vec<FileDocument>,
}

#[derive(Serialize)]
struct FileDocument {
    path: PathBuf,
    valid: bool,
    task: Option<String>,
    version: Option<u64>,
    class: Option<SignerClass>,
    key: Option<String>,
    /// The audience; empty for every device.
    audience: Vec<String>,
    refusal: Option<String>,
}

pub(crate) fn run(args: &VerifyArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let trusted = |key: &String| {
        Ok(TrustedKey {
            key: public_key(key)?,
            tasks: None,
        })
    };
    let trust = Trust {
        publishers: args.key.iter().map(trusted).collect::<anyhow::Result<_>>()?,
        device: args.device_key.as_deref().map(public_key).transpose()?,
        names: (!args.audience.is_empty()).then(|| args.audience.clone()),
        ..Trust::default()
    };
    let files = args.files.iter().map(|path| check(path, &trust));
    let files = files.collect::<anyhow::Result<Vec<_>>>()?;
    let document = VerifyDocument {
        valid: files.iter().all(|file| file.valid),
        files,
    };
    let output = context.output;
    if output.json {
        output.document("verify", &document)?;
    } else {
        for file in &document.files {
            let name = file.path.display();
            match (&file.refusal, file.class, &file.key) {
                (Some(refusal), ..) => output.line(&format!("refused  {name}: {refusal}"))?,
                (None, Some(class), Some(key)) => output.line(&format!(
                    "valid    {name}: task {}, version {}, {class} {key}{}",
                    file.task.as_deref().unwrap_or_default(),
                    file.version.unwrap_or_default(),
                    match &file.audience[..] {
                        [] => String::new(),
                        patterns => format!(", for {}", patterns.join(", ")),
                    }
                ))?,
                _ => {}
            }
        }
    }
    Ok(if document.valid { 0 } else { exit::FAILURE })
}

/// Parses a public key, given as text or as the path of its file.
fn public_key(text_or_path: &str) -> anyhow::Result<PublicKey> {
    if text_or_path.starts_with("ed25519:") {
        return Ok(text_or_path.parse()?);
    }
    Ok(read_public_key(Path::new(text_or_path))?)
}

fn check(path: &Path, trust: &Trust) -> anyhow::Result<FileDocument> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let decoded = decode(&bytes);
    let header = decoded.as_ref().ok().map(|decoded| &decoded.adapter.header);
    let policy = Policy {
        trust,
        // Any backbone is accepted: the policy uses the file's own.
        backbone: header.map_or(clr_adapters::Digest([0; 32]), |header| header.backbone),
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|time| time.as_secs()),
        limits: Limits::DEFAULT,
    };
    let signer = decoded.as_ref().ok().and_then(|decoded| decoded.signature);
    let release = decoded.as_ref().ok().and_then(|decoded| decoded.release.as_ref());
    let audience = release.map_or_else(Vec::new, |release| release.audience.clone());
    let refusal: Option<Refusal> = admit(&bytes, &policy).err();
    Ok(FileDocument {
        path: path.to_owned(),
        valid: refusal.is_none(),
        task: header.map(|header| header.task.clone()),
        version: header.map(|header| header.version),
        class: signer.map(|signer| signer.class),
        key: signer.map(|signer| signer.key.to_string()),
        audience,
        refusal: refusal.map(|refusal| refusal.to_string()),
    })
}
