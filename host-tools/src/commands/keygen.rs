//! `clr keygen`.

use std::path::PathBuf;

use clap::Args;
use clr_adapters::{KeyFileError, generate_key, write_public_key, write_secret_key};
use serde::Serialize;

use super::Context;

/// Make a key pair for signing adapters
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  clr keygen -o fleet\n\nWrites fleet.key (secret, readable by its owner only) and fleet.pub. Add the line in fleet.pub to the configuration of every device that must accept adapters signed with fleet.key."
)]
pub(crate) struct KeygenArgs {
    /// Name of the pair: NAME.key and NAME.pub
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
}

#[derive(Serialize)]
struct KeygenDocument {
    secret: PathBuf,
    public: PathBuf,
    key: String,
}

pub(crate) fn run(args: &KeygenArgs, context: &Context<'_>) -> anyhow::Result<u8> {
    let key = generate_key()?;
    let with = |extension: &str| {
        let mut path = args.output.clone().into_os_string();
        path.push(extension);
        PathBuf::from(path)
    };
    let document = KeygenDocument {
        secret: with(".key"),
        public: with(".pub"),
        key: key.public().to_string(),
    };
    // Writes both files or neither, because a secret key is useless without its public key.
    for path in [&document.secret, &document.public] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyFileError::Exists { path: path.clone() }.into());
        }
    }
    write_secret_key(&document.secret, &key)?;
    write_public_key(&document.public, &key.public())?;
    let output = context.output;
    if output.json {
        output.document("keygen", &document)?;
    } else {
        output.line(&format!("secret  {} (keep it)", document.secret.display()))?;
        output.line(&format!("public  {}", document.public.display()))?;
        output.line(&format!("key     {}", document.key))?;
    }
    Ok(0)
}
